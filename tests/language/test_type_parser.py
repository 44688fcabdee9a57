"""`fm.parse_type`: the inverse of printing, and texts that are no types."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedmpi.language as fm
from fedmpi.language.types.dtypes import DTYPES
from tests.language.test_type_laws import law

C, S = fm.CLIENTS, fm.SERVER
Seq, Fed, Fn, St, T, V = (
    fm.SequenceType,
    fm.FederatedType,
    fm.FunctionType,
    fm.StructType,
    fm.TensorType,
    fm.AbstractType,
)
ODD_NAMES = ("größe", "a.b", "0", "a b", "a-b", "?", "")
BATCH = St([("x", T(np.float32, [None, 784])), ("y", T(np.int32, [None]))])


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("int32", T(np.int32)),
        ("bool", T(np.bool_)),
        ("str", T(np.str_)),
        ("complex128[3]", T(np.complex128, [3])),
        ("float32[?,784]", T(np.float32, [None, 784])),
        ("int32[-1]", T(np.int32, [-1])),
        ("'int32'(shape=None)", T(np.int32, None)),
        ("<>", St([])),
        ("<int32,a=bool>", St([T(np.int32), ("a", T(np.bool_))])),
        ("<<>,<<int32>>>", St([St([]), St([St([T(np.int32)])])])),
        ("<int32=int32,placement=T>", St([("int32", T(np.int32)), ("placement", V("T"))])),
        ("<größe=T,a.b=T,0=T,a b=T,a-b=T,?=T,=T>", St([(name, V("T")) for name in ODD_NAMES])),
        ("{<x=float32[?,784],y=int32[?]>*}@CLIENTS", Fed(Seq(BATCH), C)),
        ("float32@SERVER", Fed(T(np.float32), S)),
        ("{float32}@SERVER", Fed(T(np.float32), S, False)),
        ("T@CLIENTS", Fed(V("T"), C, True)),
        ("( -> T)", Fn(None, V("T"))),
        ("(T -> (<> -> 'str'(shape=None)))", Fn(V("T"), Fn(St([]), T(np.str_, None)))),
        ("({int32*}@CLIENTS -> int32@SERVER)", Fn(Fed(Seq(T(np.int32)), C), Fed(T(np.int32), S))),
        ("placement", fm.PlacementType()),
        ("<placement,(T -> U)>", St([fm.PlacementType(), Fn(V("T"), V("U"))])),
    ],
)  # fmt: skip
def test_texts(text, type_):
    assert fm.parse_type(text) is type_
    assert str(type_) == text


@pytest.mark.parametrize(
    "text",
    [
        " { < x = float32 [ ? , 784 ] ,\n\ty=int32[?]> * } @ CLIENTS ",
        fm.type_at_clients(Seq(BATCH)).formatted_representation(),
        "{<x=float32[?,784],y=int32[?]>*}@CLIENTS\n",
    ],
)
def test_spaces_between_the_parts(text):
    assert fm.parse_type(text) is Fed(Seq(BATCH), C)
    assert fm.parse_type("(T->U)") is fm.parse_type(" ( T  ->U ) ") is Fn(V("T"), V("U"))
    assert fm.parse_type("(->U)") is Fn(None, V("U"))
    assert fm.parse_type("' int32 ' ( shape = None )") is T(np.int32, None)


def test_bfloat16():
    """It is a dtype of the language wherever the package is that adds it to NumPy."""
    if importlib.util.find_spec("ml_dtypes") is None:
        with pytest.raises(fm.TypingError, match="parse_type: bfloat16 needs the package ml_dtypes"):
            fm.parse_type("bfloat16[2]")
        return
    assert str(fm.parse_type("bfloat16[2]")) == "bfloat16[2]"


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("", 1, "expected a type, found the end"),
        ("  ", 3, "expected a type, found the end"),
        ("<x=float32[?,784},y=int32>", 17, "expected ',' or ']', found '}'"),
        ("int32[]", 7, "expected a size, an integer or '?', found ']'"),
        ("int32[None]", 7, "expected a size, an integer or '?', found 'None'"),
        ("int32[²]", 7, "expected a size, an integer or '?', found '²'"),
        ("int32[3", 8, "expected ',' or ']', found the end"),
        ("int32 x", 1, "expected a dtype, found 'int32 x'"),
        ("int32>", 6, "expected the end, found '>'"),
        ("<int32", 7, "expected ',' or '>', found the end"),
        ("<int32,>", 8, "expected a type, found '>'"),
        ("<a=>", 4, "expected a type, found '>'"),
        ("flaot32", 1, "expected a dtype, found 'flaot32'"),
        ("<string>", 2, "expected a dtype, found 'string'"),
        ("object[3]", 1, "expected a dtype, found 'object'"),
        ("'object'(shape=None)", 2, "expected a dtype, found 'object'"),
        ("'int32'(shape=3)", 15, "expected 'None' of 'int32'(shape=None), found '3'"),
        ("{int32}", 8, "expected '@' and a placement, found the end"),
        ("int32@clients", 7, "expected a placement, SERVER or CLIENTS, found 'clients'"),
        ("{int32@SERVER}@CLIENTS", 1, "member must hold no federated value and no function, found int32@SERVER"),
        ("<int32,T@SERVER@SERVER>", 8, "member must hold no federated value"),
        ("<T,int32**>", 4, "element must hold no federated value, function or sequence, found int32*"),
        ("<T,<a=T,a=U>>", 4, "the elements must have different names, found a, a"),
        ("<items=T>", 1, "no element can be named items"),
        ("(int32)", 7, "expected '->', found ')'"),
        ("T -> U", 3, "expected the end, found '->'"),
        ("(T -> )", 7, "expected a type, found ')'"),
    ],
)  # fmt: skip
def test_what_is_no_type(text, column, said):
    with pytest.raises(fm.TypingError) as caught:
        fm.parse_type(text)
    first, shown, mark, *more = str(caught.value).splitlines()
    assert first.startswith(f"parse_type: column {column}: {said}")
    assert shown == f"  {text}"
    assert mark == "  " + " " * (column - 1) + "^"
    assert more[0].startswith("  at test_type_parser.py:")
    assert isinstance(caught.value, ValueError)


def test_hints():
    with pytest.raises(fm.TypingError, match=r"hint: did you mean float32\?"):
        fm.parse_type("<a=flaot32>")
    with pytest.raises(fm.TypingError, match=r"hint: a function stands in parentheses: \(T -> U\)"):
        fm.parse_type("int32 -> int32")
    with pytest.raises(fm.TypingError, match=r"parse_type: text must be a str, found .*\n.*\n  hint: fm.to_type"):
        fm.parse_type(np.int32)


def test_a_long_text_is_cut_around_the_mistake():
    text = f"<{','.join(f'name{i}=float32[{i}]' for i in range(50))},!int32[3]>"
    with pytest.raises(fm.TypingError) as caught:
        fm.parse_type(text)
    _, shown, mark, *_ = str(caught.value).splitlines()
    assert len(shown) < 70
    assert shown[mark.index("^") :].startswith("!int32[3]>")


# --- printing and parsing are inverse --------------------------------------------------------------------------------

SPECIAL = "<>{}()[],=*@'"
words = st.text(st.characters(blacklist_characters=SPECIAL, blacklist_categories=["Z", "C"]), max_size=6).filter(
    lambda word: not any(taken in word for taken in ("->", *SPECIAL)) and word not in dir(fm.StructType)
)
labels = st.sampled_from(["T", "U", "W", "P1", "größe"])
dtypes = st.sampled_from([name for name in DTYPES if name != "bfloat16"]).map(np.dtype)
tensors = st.builds(T, dtypes, st.none() | st.lists(st.none() | st.integers(0, 1000), max_size=3)) | labels.map(V)


def structs(elements):
    return st.lists(
        st.tuples(st.none() | words, elements), max_size=3, unique_by=lambda p: object() if p[0] is None else p[0]
    ).map(St)  # fmt: skip


members = st.recursive(tensors, structs, max_leaves=5)
data = st.recursive(members | members.map(Seq), structs, max_leaves=5)
types = st.recursive(
    data | st.builds(Fed, data, st.sampled_from([C, S]), st.booleans()) | st.just(fm.PlacementType()),
    lambda inner: structs(inner) | st.builds(Fn, st.none() | inner, inner),
    max_leaves=6,
)


def without_containers(type_):
    match type_:
        case fm.StructType():
            return St([(name, without_containers(part)) for name, part in type_.items()])
        case Seq(element):
            return Seq(without_containers(element))
        case Fn(parameter, result):
            return Fn(None if parameter is None else without_containers(parameter), without_containers(result))
        case Fed(member, placement, all_equal):
            return Fed(without_containers(member), placement, all_equal)
    return type_


@law
@given(types)
def test_parsing_undoes_printing(type_):
    assert fm.parse_type(str(type_)) is type_
    assert fm.parse_type(type_.formatted_representation()) is type_


@law
@given(data.map(lambda t: fm.to_type([t, {"a": t}, (t,)])))
def test_containers_are_not_part_of_the_text(type_):
    parsed = fm.parse_type(str(type_))
    assert parsed is without_containers(type_)
    assert str(parsed) == str(type_)


PIECES = ["<", ">", "{", "}", "(", ")", "[", "]", ",", "=", "*", "@", "'", "->", " ", "int32", "T", "a", "?", "3"]
PIECES += ["CLIENTS", "SERVER", "placement", "shape", "None", "<a=int32>", "{T}@CLIENTS", "'int32'(shape=None)"]


@law
@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.text(max_size=12))
def test_printing_undoes_parsing(text):
    """Any text is refused with the parser's own error, or is the type's text but for spaces."""
    try:
        type_ = fm.parse_type(text)
    except fm.TypingError as error:
        assert "column" in str(error)  # noqa: PT017
        return
    assert "".join(str(type_).split()) == "".join(text.split()).replace("[03", "[3")
    assert fm.parse_type(str(type_)) is type_
