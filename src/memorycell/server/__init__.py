"""Many live sessions over the network; see docs/serve.md. Needs the extra `serve`."""
