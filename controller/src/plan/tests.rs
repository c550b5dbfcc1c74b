//! What plans come of which worlds.
