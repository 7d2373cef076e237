"""Published data sets: one module per data set reads its files and yields our records.

A reader takes a path (or an open binary stream, where the data set is one file) and opens what it needs.
`take` is called with each invalid row or file, unchanged, and the problem with its place. The default
raises the problem; `jsonl.BadLines(...).take` keeps the row and continues.
Ids have one form for all files: patients `p10000032`, studies `s50414267`.
"""
