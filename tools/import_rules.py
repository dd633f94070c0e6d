"""An import-linter contract that lists what a package may import, so that new modules are closed by default.

The built-in "forbidden" contract lists what may not be imported, and would let every module added later pass.
"""

import re

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

# grimp does not see the compiled module aktis._core and files an import of it under its parent package.
FROM_ROOT = re.compile(r"from\s+(\w+)\s+import\s+([\w, ]+?)\s*(?:#.*)?$")
IMPORT_BELOW_ROOT = re.compile(r"import\s+([\w.]+)")


def imported_names(line: str) -> list[str]:
    """Return the dotted names that one import statement loads; empty when it spans several lines."""
    if match := FROM_ROOT.fullmatch(line.strip()):
        names = (part.split()[0] for part in match[2].split(","))
        return [f"{match[1]}.{name}" for name in names]
    if match := IMPORT_BELOW_ROOT.match(line.strip()):
        return [match[1]]
    return []


def is_within(module: str, packages: list[str]) -> bool:
    """Tell whether ``module`` is one of ``packages`` or lies below one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def leaving_imports(graph: ImportGraph, importer: str, allowed: list[str]) -> list[tuple[int, str]]:
    """Return line numbers and lines of the imports in ``importer`` that are not within ``allowed``."""
    lines = set()
    for imported in graph.find_modules_directly_imported_by(importer):
        if is_within(imported, allowed):
            continue
        for details in graph.get_import_details(importer=importer, imported=imported):
            line = details["line_contents"]
            # Only an import that grimp files under a root can really mean something allowed below it.
            names = imported_names(line) if "." not in imported else []
            if not names or not all(is_within(name, allowed) for name in names):
                lines.add((details["line_number"], line))
    return sorted(lines)


class AllowedImportsContract(Contract):
    """Direct imports of ``source_package`` from the checked packages must lie within ``allowed``.

    Options: ``source_package``, one package; ``allowed``, the packages it may import besides itself.
    """

    type_name = "allowed"

    source_package = fields.StringField()
    allowed = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Collect every direct import that leaves the allowed packages."""
        source = str(self.source_package)
        allowed = [source, *(str(package) for package in self.allowed)]  # type: ignore[attr-defined]
        violations = [
            f"{importer}:{number}: {line}"
            for importer in sorted(graph.modules)
            if is_within(importer, [source])
            for number, line in leaving_imports(graph, importer, allowed)
        ]
        return ContractCheck(kept=not violations, metadata={"violations": violations})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print each offending line and what would have been allowed."""
        for violation in check.metadata["violations"]:
            output.print_error(violation)
        allowed = ", ".join(str(package) for package in self.allowed)  # type: ignore[attr-defined]
        output.print(f"{self.source_package} may import only itself and: {allowed or 'nothing else'}.")
        output.print("Write an import from a root package on one line: the checker reads its first line.")
