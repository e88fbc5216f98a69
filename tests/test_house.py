"""The measures of the house (docs/architecture.md), and the calls that no file may make.

Each rule is a function from a file's path and text to sentences about what is wrong with it. It is
run over the repository, and over a planted breach that it must catch: a check that cannot fail
checks nothing. ruff keeps complexity, import-linter the floors, mypy the types.
"""

import ast
import os
import re
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST_FILE = 400  # lines
LONGEST_FUNCTION = 60  # lines, docstring excluded
MEDIAN_FUNCTION = 10  # lines, docstring excluded
MOST_ARGUMENTS = 7
LARGEST_FILE = 16 * 2**20  # bytes: what the repository's host and a user's patience bear
NOT_OURS = {"__pycache__", "build", "dist", "runs", "tour", "shared"}  # and every folder that starts with a dot
FOREIGN_WEIGHTS = "napari_unet/nets/model.py"  # the one file that reads a .pth, with weights_only=True
OWN_PROGRAMS = "tests/engine/conftest.py"  # the one file that runs TorchScript: what `export` has just written

Function = ast.FunctionDef | ast.AsyncFunctionDef
Rule = Callable[[str, str], list[str]]


def functions(tree: ast.AST) -> Iterator[Function]:
    """Every function and method, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def length(function: Function) -> int:
    """Lines from `def` to the last statement, docstring excluded."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    docstring = ast.get_docstring(function, clean=False)
    return lines - (docstring.count("\n") + 1 if docstring else 0)


def public(node: ast.Module | ast.ClassDef) -> Iterator[Function | ast.ClassDef]:
    """Classes, functions and methods whose names start with a letter."""
    for child in node.body:
        if isinstance(child, Function | ast.ClassDef) and not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from public(child)


def dotted(node: ast.AST) -> str:
    """`a.b.c` as it is written; '' if it is no plain name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


# --- the rules ---------------------------------------------------------------------------------


def file_is_short(path: str, text: str) -> list[str]:
    """At most 400 lines."""
    lines = text.count("\n")
    return [f"{path}: {lines} lines"] if lines > LONGEST_FILE else []


def functions_are_short(path: str, text: str) -> list[str]:
    """At most 60 lines each."""
    return [
        f"{path}:{f.lineno} {f.name}: {length(f)} lines"
        for f in functions(ast.parse(text))
        if length(f) > LONGEST_FUNCTION
    ]


def arguments_are_few(path: str, text: str) -> list[str]:
    """At most 7, `self` not counted; a line that is marked for ruff (noqa: PLR0913, with its reason) is let through."""
    lines = text.splitlines()
    found = []
    for f in functions(ast.parse(text)):
        names = [a.arg for a in (*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs) if a.arg not in ("self", "cls")]
        if len(names) > MOST_ARGUMENTS and not re.search(r"noqa: PLR0913 \S+ \w", lines[f.lineno - 1]):
            found.append(f"{path}:{f.lineno} {f.name}: {len(names)} arguments")
    return found


def public_names_are_described(path: str, text: str) -> list[str]:
    """The file and every public class, function and method has a docstring."""
    tree = ast.parse(text)
    nameless = [] if ast.get_docstring(tree) else [f"{path}: no docstring"]
    overloads = {"overload", "typing.overload"}
    return nameless + [
        f"{path}:{node.lineno} {node.name}: no docstring"
        for node in public(tree)
        if not ast.get_docstring(node) and not any(dotted(d) in overloads for d in node.decorator_list)
        # a property's setter shows the docstring of its getter
        if not any(dotted(d).endswith((".setter", ".deleter")) for d in node.decorator_list)
    ]


def every_test_is_described(path: str, text: str) -> list[str]:
    """Every test says in its docstring what it shows."""
    tests = (f for f in functions(ast.parse(text)) if f.name.startswith("test_"))
    return [f"{path}:{f.lineno} {f.name}: no docstring" for f in tests if not ast.get_docstring(f)]


def names_say_what_is_in_it(path: str, text: str) -> list[str]:
    """No utils, helpers, manager or Base: neither as a file's name nor as a part of a class's."""
    vague = {"util", "utils", "helper", "helpers", "manager", "managers", "base", "misc", "common"}
    found = [f"{path}: a name that says nothing" for part in Path(path).parts if vague & set(re.split(r"\W|_", part))]
    for node in ast.walk(ast.parse(text)):
        words = re.findall(r"[A-Z]+[a-z]*", node.name) if isinstance(node, ast.ClassDef) else []
        if vague & {word.lower() for word in words}:
            found.append(f"{path}:{node.lineno} {node.name}: a name that says nothing")
    return found


UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
UNSAFE_NAMES = {"eval", "exec", "compile", "__import__"}  # as bare names: `net.eval()` is torch's
UNSAFE_ENDS = (
    ".extractall",
    "yaml.load",
    "yaml.unsafe_load",
    "os.system",
    "hub.load",
    "jit.load",
    "_unverified_context",
)
UNSAFE_FLAGS = {"allow_pickle": True, "shell": True, "verify": False}


def nothing_runs_what_it_reads(path: str, text: str) -> list[str]:
    """No file, picture, project or model can make us run code, write elsewhere or trust a stranger."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"{path}:{node.lineno} imports {m}" for m in modules if m.split(".")[0] in UNSAFE_MODULES]
        elif isinstance(node, ast.Call):
            found += [f"{path}:{node.lineno} {what}" for what in unsafe_in_call(node, path)]
    return found


def unsafe_in_call(call: ast.Call, path: str) -> Iterator[str]:
    """What is unsafe about one call."""
    name = dotted(call.func)
    flags = {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
    if name in UNSAFE_NAMES or (name.endswith(UNSAFE_ENDS) and (name, path) != ("torch.jit.load", OWN_PROGRAMS)):
        yield f"calls {name}"
    for flag, value in UNSAFE_FLAGS.items():
        if flags.get(flag) is value:
            yield f"passes {flag}={value}"
    if name == "torch.load" and (path != FOREIGN_WEIGHTS or flags.get("weights_only") is not True):
        yield f"calls torch.load elsewhere than in {FOREIGN_WEIGHTS}, or without weights_only=True"


def pages_lead_somewhere(path: str, text: str) -> list[str]:
    """Every link of a page to a file, and every `folder/file.py` it names, is there."""
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    lost = [link for link in links if not (ROOT / path).parent.joinpath(link).exists()]
    named = re.findall(r"`([\w/]+/\w+\.py)`", text)
    lost += [name for name in named if not any((ROOT / above / name).exists() for above in ("", "napari_unet"))]
    return [f"{path}: {name} is not there" for name in lost]


# --- the rules, over the repository and over planted breaches ------------------------------------

HOUSE: list[Rule] = [
    file_is_short,
    functions_are_short,
    arguments_are_few,
    names_say_what_is_in_it,
    nothing_runs_what_it_reads,
]
ELSEWHERE: list[Rule] = [public_names_are_described, every_test_is_described, pages_lead_somewhere]


def repository() -> Iterator[Path]:
    """Every file of the repository, computed and hidden ones excluded."""
    for folder, inside, names in os.walk(ROOT):
        inside[:] = [name for name in inside if name not in NOT_OURS and not name.startswith(".")]
        yield from (Path(folder, name) for name in names)


def files(suffix: str, folder: str = "") -> list[tuple[str, str]]:
    """Path from the root and text of every file of a kind in a folder."""
    named = ((path.relative_to(ROOT).as_posix(), path) for path in repository() if path.suffix == suffix)
    return [(name, path.read_text(encoding="utf-8")) for name, path in named if name.startswith(folder)]


def assert_nothing_found(rule: Rule, where: list[tuple[str, str]]) -> None:
    """Fail with every sentence that a rule has to say about some files."""
    assert where, "there is nothing to check"
    found = [sentence for path, text in where for sentence in rule(path, text)]
    assert not found, "\n".join([f"{rule.__name__}:", *found])


@pytest.mark.parametrize("rule", HOUSE, ids=lambda rule: rule.__name__)
def test_every_file_keeps(rule: Rule) -> None:
    """Each rule of the house holds in every Python file of the repository."""
    assert_nothing_found(rule, files(".py"))


def test_every_public_name_is_described() -> None:
    """Whoever reads the package finds a docstring at every file and public name."""
    assert_nothing_found(public_names_are_described, files(".py", "napari_unet/"))


def test_every_test_is_described() -> None:
    """Whoever reads a test finds the behaviour it shows in one sentence."""
    assert_nothing_found(every_test_is_described, files(".py", "tests/"))


def test_every_page_leads_somewhere() -> None:
    """No link of a page is dead, and no page speaks of a file that is gone."""
    assert_nothing_found(pages_lead_somewhere, files(".md"))


def test_the_usual_function_is_short() -> None:
    """Half of the package's functions have 10 lines or fewer."""
    lengths = [length(f) for _, text in files(".py", "napari_unet/") for f in functions(ast.parse(text))]
    assert statistics.median(lengths) <= MEDIAN_FUNCTION


def too_large(paths: Iterator[Path], limit: int) -> list[str]:
    """Files over a number of bytes."""
    return [f"{path.name}: {path.stat().st_size} bytes" for path in paths if path.stat().st_size > limit]


def test_no_file_is_too_large() -> None:
    """Nothing in the repository, weights and pictures included, is over 16 MB."""
    assert too_large(repository(), LARGEST_FILE) == []


def test_the_package_has_every_floor_that_is_described() -> None:
    """The table of floors in docs/architecture.md names the folders that there are, and no other."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `(\w+)/` \|", page, re.MULTILINE))
    assert described == {path.parent.name for path in (ROOT / "napari_unet").glob("*/__init__.py")}


LONG_BODY = "    x = 1\n" * 60
BREACHES: list[tuple[Rule, str, str]] = [
    (file_is_short, "a.py", "x = 1\n" * 401),
    (functions_are_short, "a.py", f"def f():\n{LONG_BODY}"),
    (functions_are_short, "a.py", f'class C:\n  async def f(self):\n    """One."""\n{LONG_BODY}'),
    (arguments_are_few, "a.py", "def f(a, b, c, d, e, f, g, h): ..."),
    (arguments_are_few, "a.py", "def f(a, b, c, d, e, *, f, g, h): ..."),
    (arguments_are_few, "a.py", "def f(a, b, c, d, e, f, g, h): ...  # noqa: PLR0913"),
    (public_names_are_described, "a.py", "x = 1"),
    (public_names_are_described, "a.py", '"""A file."""\ndef f(): ...'),
    (public_names_are_described, "a.py", '"""A file."""\nclass C:\n    """A class."""\n    def f(self): ...'),
    (every_test_is_described, "test_a.py", "def test_f(): ..."),
    (every_test_is_described, "test_a.py", "class TestC:\n    def test_f(self): ..."),
    (names_say_what_is_in_it, "napari_unet/core/utils.py", ""),
    (names_say_what_is_in_it, "napari_unet/image_helpers.py", ""),
    (names_say_what_is_in_it, "a.py", "class ModelManager: ..."),
    (names_say_what_is_in_it, "a.py", "class BasePanel: ..."),
    (pages_lead_somewhere, "README.md", "[a](nowhere.md)"),
    (pages_lead_somewhere, "docs/a.md", "![a](README.md)"),
    (pages_lead_somewhere, "README.md", "`core/nothing.py`"),
    *(
        (nothing_runs_what_it_reads, "a.py", line)
        for line in (
            "import pickle",
            "from pickle import loads",
            "import os, dill.source",
            "eval('1')",
            "exec('1')",
            "yaml.load(text)",
            "subprocess.run('ls', shell=True)",
            "zipfile.ZipFile(path).extractall()",
            "archive.extractall(folder)",
            "np.load(path, allow_pickle=True)",
            "requests.get(url, verify=False)",
            "ssl._create_unverified_context()",
            "torch.hub.load('a', 'b')",
            "torch.jit.load(path)",
            "torch.load(path, weights_only=True)",
        )
    ),
    (nothing_runs_what_it_reads, FOREIGN_WEIGHTS, "torch.load(path)"),
    (nothing_runs_what_it_reads, FOREIGN_WEIGHTS, "torch.load(path, weights_only=False)"),
]


@pytest.mark.parametrize(("rule", "path", "text"), BREACHES)
def test_a_planted_breach_is_caught(rule: Rule, path: str, text: str) -> None:
    """Each rule finds exactly the one thing that is wrong with a bad file."""
    assert len(rule(path, text)) == 1


SOUND = '''"""A file."""

class Tile:
    """A class."""

    def read(self, a, b, c, d, e, f, g):
        """A method."""
        net.eval()
        return np.load(a, allow_pickle=False), yaml.safe_load(b), subprocess.run(["ls"], shell=False)

def _private(): ...

def test_all():
    """A test."""

def many(a, b, c, d, e, f, g, h):  # noqa: PLR0913 - one option each
    """A function."""
'''


@pytest.mark.parametrize("rule", [*HOUSE, *ELSEWHERE], ids=lambda rule: rule.__name__)
def test_a_sound_file_is_let_through(rule: Rule) -> None:
    """No rule complains about a file that keeps them all."""
    assert rule("napari_unet/core/tiles.py", SOUND) == []


def test_foreign_weights_may_be_read_in_one_place() -> None:
    """Reading a .pth as plain tensors is allowed in the one file made for it."""
    assert nothing_runs_what_it_reads(FOREIGN_WEIGHTS, "torch.load(path, weights_only=True)") == []


def test_a_large_file_is_caught(tmp_path: Path) -> None:
    """A file one byte over the limit is found, one at the limit is not."""
    (tmp_path / "weights").write_bytes(b"12345")
    assert too_large(tmp_path.iterdir(), 4) == ["weights: 5 bytes"]
    assert too_large(tmp_path.iterdir(), 5) == []


def test_a_docstring_is_no_part_of_a_functions_length() -> None:
    """Describing a function at length never makes it too long."""
    short, described = "def f():\n    return 1", 'def f():\n    """One.\n\n    Two.\n    """\n    return 1'
    assert [length(f) for text in (short, described) for f in functions(ast.parse(text))] == [2, 2]
