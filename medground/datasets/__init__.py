"""Published data sets: one module for each reads its files and yields our records.

A reader takes a path (or an open binary stream, where the data set is one file) and opens what it needs.
`take` is called with each row or file that is not as it should be, as it was, and the problem with its
place; the default raises the problem, `jsonl.BadLines(...).take` keeps the row and goes on.
Ids are written alike whichever file they come from: patients `p10000032`, studies `s50414267`.
"""
