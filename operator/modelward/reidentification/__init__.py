"""How identifying combinations of quasi-identifiers are in a stream of rows of which no value is kept."""
