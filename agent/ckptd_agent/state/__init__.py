"""Kinds of state with rules of their own: tensors, arrays, random generators, loaders, files, iterators."""
