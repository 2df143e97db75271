"""Field treatments, pseudonyms, sealed tokens, recognisers and sanitising: pure, in the terms of ISO/IEC 20889."""
