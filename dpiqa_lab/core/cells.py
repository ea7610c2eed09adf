"""The names that a notebook's cell or a script assigns, from its source."""
# ruff: noqa: D102 - methods of ast.NodeVisitor are named after the nodes they visit

import ast
import re

COMPUTED = object()  # stands for a value that the source does not show
PERHAPS = object()  # as COMPUTED, of an assignment that may not have run
_CALL = "notebook_parameters"
_READER = "from_parameters"
_INJECTED = "# Parameters\n"  # how the cell that papermill adds begins
_ASSIGNMENT = re.compile(r"^([^\W\d_]\w*)\s*(?::[^=\n]*)?=(?!=)", re.MULTILINE)
_REMARK = re.compile(r"(?<=\S)\s+#.*")  # at the end of a line
_BLOCKS = (
    ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Match, ast.Try,
    ast.TryStar,
)  # fmt: skip
_NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_SCOPES = (*_NAMED, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SETTING_MAGICS = {"run", "store", "pylab"}  # of one line, which set names that they do not show
_OPAQUE = {"exec", "globals", "locals", "vars", "get_ipython"}


class Cell(ast.NodeVisitor):
    """A source, read in the order in which it runs.

    Attributes:
        assigned: names without a leading underscore that it assigns before it calls
            ``notebook_parameters``: the value if it is a literal, else COMPUTED, or PERHAPS within
            a block that may not run. Loop targets, imports and the like are not included.
        bound: all names that it binds, before and after the call.
        deleted: names that it deletes.
        opaque: whether it may set names that its source does not show, before the call.
        calls: whether it calls ``notebook_parameters``, outside of functions.
        reader: the ``from_parameters`` that takes the call's result, as written.
        plain: whether it only assigns literals.
        injected: whether papermill added it.
        broken: names assigned by a source that is not valid Python.
        lines: its lines, without blank ones and without trailing comments.
        reads: number of times that parameters were read before it ran; of a live kernel.
        dropped: assignments of its earlier runs; of a live kernel.
    """

    def __init__(self, source: str) -> None:
        self.assigned: dict[str, object] = {}
        self.bound: set[str] = set()
        self.deleted: set[str] = set()
        self.broken: list[str] = []
        self.opaque = self.calls = self.plain = False
        self.reader: str | None = None
        self.injected = source.startswith(_INJECTED)
        self.lines: set[str] = set()
        self.reads = 0
        self.dropped: dict[str, object] = {}
        self._depth = 0
        try:
            statements = self._statements(source)
        except SyntaxError:
            self.broken = _ASSIGNMENT.findall(source)
            return
        self.plain = all(map(_is_plain, statements))
        for statement in statements:
            self.visit(statement)

    def _statements(self, source: str) -> list[ast.stmt]:
        """Statements of the source, with magic commands replaced by the code that they run."""
        lines = (_REMARK.sub("", line).strip() for line in source.splitlines())
        self.lines.update(filter(None, lines))
        try:
            body = ast.parse(source).body
        except SyntaxError:
            from IPython.core.inputtransformer2 import TransformerManager

            body = ast.parse(TransformerManager().transform_cell(source)).body
        statements: list[ast.stmt] = []
        for statement in body:
            try:
                statements += self._statements(_run_by_magic(statement))
            except SyntaxError:  # no Python, as of %%bash
                statements.append(statement)
        return statements

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, _SCOPES):
            if isinstance(node, _NAMED):
                self.bound.add(node.name)
            return
        block = isinstance(node, _BLOCKS)
        self._depth += block
        super().visit(node)
        self._depth -= block

    def visit_Call(self, node: ast.Call) -> None:
        name = getattr(node.func, "id", getattr(node.func, "attr", None))
        if name == _CALL:
            self.calls = True
            return
        if _is_harmless_magic(node):
            return
        before = self.calls
        self.generic_visit(node)
        if name == _READER and self.calls and not before:
            self.reader = ast.unparse(node.func)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self._assign(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
            self._assign(node.target, node.value)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._assign(node.target, None)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        self._assign(node.target, None)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self.bound.add(node.id)
        elif isinstance(node.ctx, ast.Del):
            self.deleted.add(node.id)
        elif node.id in _OPAQUE:
            self._hide()

    def visit_alias(self, node: ast.alias) -> None:
        self.bound.add(node.asname or node.name.partition(".")[0])
        if node.name == "*":
            self._hide()

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self.bound.add(node.name or "_")
        self.generic_visit(node)

    def _assign(self, target: ast.expr, value: ast.expr | None) -> None:
        self.visit(target)
        for node in ast.walk(target):
            if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Store):
                continue
            if not self.calls and not node.id.startswith("_"):
                known = _literal(value) if isinstance(target, ast.Name) and value else COMPUTED
                add(self.assigned, node.id, PERHAPS if self._depth else known)

    def _hide(self) -> None:
        if not self.calls:
            self.opaque = True
            self.assigned = obscured(self.assigned)


def add(assigned: dict[str, object], name: str, value: object) -> None:
    """Add the assignment of ``value`` to ``name`` after those already ``assigned``."""
    certain = assigned.get(name, PERHAPS) is not PERHAPS
    assigned[name] = COMPUTED if value is PERHAPS and certain else value


def obscured(assigned: dict[str, object]) -> dict[str, object]:
    """``assigned`` after code that may have changed any value."""
    return {name: PERHAPS if value is PERHAPS else COMPUTED for name, value in assigned.items()}


def _run_by_magic(statement: ast.stmt) -> str:
    """The code run by ``%time``, ``%%time`` or another magic command of a cell.

    Raises:
        SyntaxError: another statement.
    """
    match statement:
        case ast.Expr(ast.Call(ast.Attribute(attr=magic), [name, *_, ast.Constant(str(code))])):
            time = isinstance(name, ast.Constant) and name.value == "time"
            if magic == "run_cell_magic" or (magic == "run_line_magic" and time):
                return code
    raise SyntaxError


def _is_harmless_magic(node: ast.Call) -> bool:
    """Whether a magic or shell command sets no name except the one assigned to."""
    match node:
        case ast.Call(ast.Attribute(ast.Call(ast.Name("get_ipython")), kind), [name, *_]):
            setting = getattr(name, "value", None) in _SETTING_MAGICS
            shell = kind in {"system", "getoutput", "run_cell_magic"}
            return shell or (kind == "run_line_magic" and not setting)
    return False


def _literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return COMPUTED


def _is_plain(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        return statement.value is not None and _literal(statement.value) is not COMPUTED
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
