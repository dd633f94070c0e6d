"""Word count and inverted index over many files, as map, shuffle and reduce.

``python -m examples.wordcount`` starts a cluster, indexes every source file of the interpreter's standard
library, checks the result against a single process, and says how fast it went. The modules, in the order of
the data: ``corpus`` reads the files, ``mapper`` finds words, ``shuffler`` deals them to partitions,
``reducer`` merges a partition, ``index`` answers questions; ``stages`` turns these plain functions into
tasks, ``job`` runs them on a cluster, ``baseline`` does the same without one, ``report`` shows it.
"""
