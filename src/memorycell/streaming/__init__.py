"""Live sequences: one step at a time, with a state that can be saved, forked and rewound."""
