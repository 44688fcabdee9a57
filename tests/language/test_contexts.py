"""Which context runs a call: the default, what a `with` block installs, threads and asyncio tasks."""

import asyncio
import threading

import pytest

import fedmpi as fm
from fedmpi import framework

stack = framework.get_context_stack()


class Named:
    """A context whose calls return its name."""

    def __init__(self, name):
        self.name = name

    def invoke(self, computation, argument, *, resident=False):
        return self.name


@fm.federated_computation
def one():
    return 1


@pytest.fixture(autouse=True)
def _default():
    fm.set_default_context(Named("default"))
    yield
    fm.set_default_context(None)


def in_thread(action):
    """Return what an action returns in a new thread."""
    found = []
    thread = threading.Thread(target=lambda: found.append(action()))
    thread.start()
    thread.join()
    return found[0]


def test_install_is_nested_and_restores():
    outer, inner = Named("outer"), Named("inner")
    with stack.install(outer) as installed:
        assert installed is stack.current is outer
        assert one() == "outer"
        with stack.install(inner):
            assert one() == one.resident() == "inner"
        assert one() == "outer"
    assert one() == "default"


def test_install_restores_when_an_exception_passes():
    def fail():
        with stack.install(Named("a")), stack.install(Named("b")):
            assert one() == "b"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert one() == "default"


def test_a_context_is_a_with_block():
    context = fm.ReferenceContext()
    with context as installed:
        assert installed is context is stack.current
        assert one() == 1
        with fm.MpiContext() as other, context:
            assert stack.current is context
            assert other is not context
        assert stack.current is context
    assert one() == "default"
    with pytest.raises(ZeroDivisionError), context:
        raise ZeroDivisionError
    assert one() == "default"


def test_the_default_changes_below_a_block():
    with stack.install(Named("block")):
        stack.set_default_context(Named("new"))
        assert one() == "block"
    assert one() == "new"


def test_threads_see_the_default_and_have_blocks_of_their_own():
    def own():
        with stack.install(Named("thread's")):
            return one()

    with stack.install(Named("block")):
        assert in_thread(one) == "default"
        assert in_thread(own) == "thread's"
        assert one() == "block"
    in_thread(lambda: fm.set_default_context(Named("from a thread")))
    assert one() == "from a thread"


def test_tasks_see_the_block_that_they_are_begun_in():
    async def named(name, inside, outside):
        with stack.install(Named(name)):
            inside.set()
            await outside.wait()
            return one()

    async def main():
        first, second = asyncio.Event(), asyncio.Event()
        with stack.install(Named("block")):
            late = asyncio.create_task(asyncio.sleep(0.01, one))
            begun = asyncio.create_task(named("a", first, second))
        await first.wait()
        other = asyncio.create_task(named("b", second, first))
        assert one() == "default"
        assert await asyncio.gather(begun, other) == ["a", "b"]

        async def call():
            return (await late)()

        with stack.install(Named("later")):
            task = asyncio.create_task(call())
        assert await task == "later"

    asyncio.run(main())


def test_no_default_context():
    framework.set_no_default_context()
    with pytest.raises(fm.ContextError, match=r"no default context is installed\n  at test_contexts\.py:\d+") as caught:
        one()
    assert isinstance(caught.value, RuntimeError)
    with pytest.raises(fm.ContextError, match=r"hint: set one with fm.set_default_context\(fm.MpiContext\(\)\)"):
        fm.is_server()
    with pytest.raises(fm.ContextError):
        stack.current  # noqa: B018
    with fm.ReferenceContext():
        assert one() == 1
    fm.set_default_context(Named("again"))
    assert one() == "again"


@pytest.mark.parametrize("wrong", ["mine", 5, fm.MpiContext, object()])
def test_what_is_no_context(wrong):
    text = r"context: expected a context, such as fm\.MpiContext\(\).*, found (.|\n)*at test_contexts\.py:\d+"
    with pytest.raises(TypeError, match=text):
        fm.set_default_context(wrong)
    with pytest.raises(TypeError, match=text):
        stack.install(wrong)
    with pytest.raises(TypeError, match=text):
        fm.AsyncContext(wrong)
    assert one() == "default"
