"""All mutants of one module's source, made by mutmut's operators."""

import dataclasses

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One small change: the lines it touches, their text before and after, the whole mutated source."""

    first: int
    last: int
    before: str
    after: str
    source: str

    @property
    def key(self) -> str:
        """What names it, also when lines above it move."""
        return f"{self.before} => {self.after}"


class _Mutations(cst.CSTVisitor):
    """Collects (node, mutated node, lines); annotations, decorators, docstrings and `len`/`isinstance` calls stay."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[cst.CSTNode, cst.CSTNode, CodeRange]] = []
        self.lines: list[CodeRange] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Annotation | cst.Decorator | cst.Import | cst.ImportFrom | cst.Assert):
            return False
        if isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value in ("len", "isinstance"):
            return False
        if isinstance(node, cst.Assign) and isinstance(node.value, cst.Subscript):
            of = node.value.value
            if isinstance(of, cst.Name) and of.value in ("Literal", "NDArray", "Callable", "tuple", "dict"):
                return False  # another name of a type
        if isinstance(node, cst.Expr) and isinstance(node.value, cst.SimpleString | cst.ConcatenatedString):
            return False
        if isinstance(node, cst.BaseExpression | cst.BaseSmallStatement | cst.BaseCompoundStatement):
            self.lines.append(self.get_metadata(PositionProvider, node))
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                self.found += [(node, changed, self.lines[-1]) for changed in operator(node)]
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if self.lines and self.lines[-1] is self.get_metadata(PositionProvider, original_node, None):
            self.lines.pop()


class Mutants:
    """All mutants of a module's source; each source is built when it is asked for, as that takes a tenth of a
    second."""

    def __init__(self, source: str) -> None:
        self.source, self.wrapper, visitor = source, MetadataWrapper(cst.parse_module(source)), _Mutations()
        self.wrapper.visit(visitor)
        self.found = visitor.found

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, number: int) -> Mutant | None:
        """The mutant, None where it does not compile or changes nothing."""
        node, changed, lines = self.found[number]
        text = cst.ensure_type(self.wrapper.module.deep_replace(node, changed), cst.Module).code
        old, new = self.source.splitlines(), text.splitlines()
        try:
            compile(text, "mutant", "exec")
        except SyntaxError:
            return None
        if old == new:
            return None
        head = next(k for k, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
        tail = 0
        while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
            tail += 1
        before, after = (" ".join(part.strip() for part in lines[head : len(lines) - tail]) for lines in (old, new))
        return Mutant(lines.start.line, lines.end.line, before, after, text)
