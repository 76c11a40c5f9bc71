"""Objects told apart by id(): in lists, sets, keys of dicts, and a memo that a recursion fills."""


class Node:
    def __init__(self, value, children=()):
        self.value = value
        self.children = list(children)


def walk(node, seen):
    if id(node) in seen:
        return 0
    seen.add(id(node))
    return node.value + sum([walk(each, seen) for each in node.children])


leaves = [Node(value) for value in range(40)]
root = Node(100, [Node(50, leaves[:20]), Node(60, leaves[10:])])
odd = [id(each) for each in leaves if each.value % 2]
few = frozenset(id(each) for each in leaves[:3])
names = {id(each): f"leaf {each.value}" for each in leaves}
counts = {}
seen = set()
large = [1 << 40, (1 << 62) + 1, 1_700_000_000_000, hash("x") | 1 << 50]
for step in range(3):
    total = walk(root, seen)
    for each in leaves[::13]:
        counts[id(each)] = counts.get(id(each), 0) + 1
        print(step, total, names[id(each)], id(each) in odd, id(each) in few, counts[id(each)], len(counts))
    seen.clear()
each = None
of_leaves = [
    (names.pop(id(leaf)), counts.pop(id(leaf), 0), odd.count(id(leaf)), id(leaf) in few) for leaf in leaves
]
print(of_leaves, len(names), len(counts), large)
del odd, few, names, counts, seen
