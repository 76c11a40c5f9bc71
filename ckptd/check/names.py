"""What names mean in a module: imports under other names, and variables that were made by a call."""

from __future__ import annotations

import ast


class Names:
    """The names of one module."""

    def __init__(self, tree: ast.Module) -> None:
        self.imports: dict[str, str] = {}
        """Name in the module to the dotted name that it was imported as."""
        self.made: dict[str, str] = {}
        """Last component of a variable to what is called to make it, dotted."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    self.imports[alias.asname or top] = alias.name if alias.asname else top
            elif isinstance(node, ast.ImportFrom):
                base = "." * node.level + (node.module or "")
                for alias in node.names:
                    self.imports[alias.asname or alias.name] = f"{base}.{alias.name}"
        for node in ast.walk(tree):
            self._note(node)

    def dotted(self, node: ast.expr) -> str:
        """'torch.optim.Adam' for an expression that names it in whatever way; '' for what is no name."""
        if isinstance(node, ast.Name):
            return self.imports.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            above = self.dotted(node.value)
            return f"{above}.{node.attr}" if above else ""
        return ""

    def maker(self, node: ast.expr) -> str:
        """What was called to make the object that a variable or attribute holds; '' if that can't be told."""
        if isinstance(node, ast.Call):
            return self.dotted(node.func)
        return self.made.get(last(node), "")

    def _note(self, node: ast.AST) -> None:
        pairs: list[tuple[ast.expr, ast.expr | None]] = []
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs += list(zip(target.elts, node.value.elts, strict=False))
                else:
                    pairs.append((target, node.value))
        elif isinstance(node, ast.AnnAssign):
            pairs.append((node.target, node.value))
        elif isinstance(node, ast.With):
            pairs += [(item.optional_vars, item.context_expr) for item in node.items if item.optional_vars]
        for target, value in pairs:
            if isinstance(value, ast.Call) and last(target):
                self.made[last(target)] = self.dotted(value.func)


def last(node: ast.expr) -> str:
    """The last component of a name or attribute, '' for other expressions."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""
