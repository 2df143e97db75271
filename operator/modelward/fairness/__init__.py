"""How equally groups of people are treated: pure, from what was answered to rates and how far apart they are."""
