"""MkDocs hook: give the site the repository's paths.

Links between README.md, docs/ and benchmarks/ then work on the site as in the repository, and the
strict build checks them.
"""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PUBLISHED = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "benchmarks/*.*",
    "docs/*.md",
    "docs/api/*.md",
    "docs/examples/*.py",
    "docs/examples/serve/*",
    "docs/examples/tides/tides/*.py",
    "docs/pictures/*.png",
    "docs/site/*.css",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of docs/ by the published files, at their paths in the repository."""
    theme = [file for file in files if file.src_dir != config.docs_dir]
    published = [
        File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path))
        for pattern in PUBLISHED
        for path in sorted(ROOT.glob(pattern))
    ]
    return Files([*theme, *published])
