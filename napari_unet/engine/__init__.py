"""The work: predict, train, click, evaluate. Iterators over torch; no Qt, no threads."""
