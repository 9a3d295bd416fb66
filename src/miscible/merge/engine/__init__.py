"""The streamed engine: tensors go from file to file in chunks, many at a time, without torch.

`sources` read chunks, `passes` run compiled programs over them, `streamed` is what a method sees,
`execute` does one output tensor, `write` a whole model, `cost` says beforehand what it takes.
"""
