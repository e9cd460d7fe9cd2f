import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from ktransfer.exporting.onnx.canonical import canonicalize

X = np.float32([[3, -1, 2, 5]])
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


class Drawn:
    """Names and orders drawn at random for the parts of a graph, as another process might have them."""

    def __init__(self, seed):
        self._rng = np.random.default_rng(seed)
        self._names = {}

    def __call__(self, name):
        return self._names.setdefault(name, f"{name}__{self._rng.integers(10**9)}")

    def shuffled(self, entries):
        return [entries[place] for place in self._rng.permutation(len(entries))]

    def node(self, operation, inputs, outputs, **attributes):
        made = helper.make_node(
            operation, inputs, outputs, name=self(f"{operation}_{outputs[0]}"), doc_string=self("doc")
        )
        if self._rng.integers(2):
            made.domain = ""  # which is written, as nothing is where it was not set
        made.attribute.extend(
            self.shuffled([helper.make_attribute(name, value) for name, value in attributes.items()])
        )
        return made

    def constant(self, name, values):
        if self._rng.integers(2):
            return numpy_helper.from_array(values, name)
        kind = helper.np_dtype_to_tensor_dtype(values.dtype)
        return helper.make_tensor(name, kind, values.shape, values.flatten())

    def graph(self, nodes, inputs, outputs, constants=(), between=()):
        return helper.make_graph(
            self.shuffled(nodes),
            self("graph"),
            inputs,
            outputs,
            self.shuffled([self.constant(name, np.array(v)) for name, v in constants]),
            doc_string=self("doc"),
            value_info=self.shuffled([helper.make_tensor_value_info(name, FLOAT, None) for name in between]),
        )

    def model(self, graph):
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
        model = helper.make_model(graph, opset_imports=self.shuffled(opsets), ir_version=8)
        helper.set_model_props(model, dict(self.shuffled([("labels", "[]"), ("a", "1")])))
        return model


def value(name, kind=FLOAT, shape=(1, 4)):
    return helper.make_tensor_value_info(name, kind, shape)


def plain(n):
    """Two branches of one operation each, equal constants, a node of two outputs, one that nobody needs."""
    nodes = [
        n.node("Add", ["x", n("one")], [n("a")]),
        n.node("Add", ["x", n("also_one")], [n("b")]),
        n.node("Mul", [n("a"), n("b")], [n("c")]),
        n.node("Split", [n("c"), n("halves")], [n("left"), n("right")], axis=1),
        n.node("Sub", [n("left"), n("right")], [n("d")]),
        n.node("LeakyRelu", [n("a")], [n("e")], alpha=0.5),
        n.node("Gemm", [n("e"), n("weights"), n("d")], ["y"], alpha=2.0, beta=0.5, transB=1),
        n.node("Exp", [n("a")], [n("unused")]),
    ]
    one = np.ones(4, np.float32)
    weights = np.arange(8, dtype=np.float32).reshape(2, 4)
    halves = np.array([2, 2])
    constants = [
        *((n("one"), one), (n("also_one"), one), (n("weights"), weights), (n("halves"), halves)),
        (n("unused_constant"), one),
    ]
    return n.graph(nodes, [value("x")], [value("y", shape=(1, 2))], constants, [n("a"), n("c")])


def branched(n):
    """An `If` whose branches use values and constants from outside, one of them in another `If`."""
    inner = [
        n.graph([n.node("Neg", [n("a")], [n("p")])], [], [value(n("p"))]),
        n.graph([n.node("Mul", [n("two"), n("b")], [n("q")])], [], [value(n("q"))]),
    ]
    then = n.graph(
        [
            n.node("Sub", [n("b"), n("five")], [n("r")]),
            n.node("If", [n("positive")], [n("s")], then_branch=inner[0], else_branch=inner[1]),
            n.node("Add", [n("r"), n("s")], [n("t")]),
        ],
        [],
        [value(n("t"))],
        [(n("five"), np.float32([5]))],
    )
    otherwise = n.graph([n.node("Mul", [n("a"), n("two")], [n("u")])], [], [value(n("u"))])
    nodes = [
        n.node("Abs", ["x"], [n("a")]),
        n.node("Exp", ["x"], [n("b")]),
        n.node("ReduceSum", ["x"], [n("sum")], keepdims=0),
        n.node("Greater", [n("sum"), n("zero")], [n("positive")]),
        n.node("If", [n("positive")], ["y"], then_branch=then, else_branch=otherwise),
    ]
    constants = [(n("two"), np.float32([2])), (n("zero"), np.float32(0))]
    return n.graph(nodes, [value("x")], [value("y")], constants)


def looped(n):
    """A `Loop` that adds a value from outside to what it carries."""
    body = n.graph(
        [
            n.node("Identity", [n("go")], [n("go_on")]),
            n.node("Mul", [n("carried"), n("half")], [n("m")]),
            n.node("Add", [n("m"), n("outside")], [n("next")]),
        ],
        [value(n("i"), INT64, ()), value(n("go"), BOOL, ()), value(n("carried"))],
        [value(n("go_on"), BOOL, ()), value(n("next"))],
        [(n("half"), np.float32([0.5]))],
    )
    nodes = [
        n.node("Neg", ["x"], [n("outside")]),
        n.node("Loop", [n("times"), "", "x"], [n("last")], body=body),
        n.node("Relu", [n("last")], ["y"]),
    ]
    return n.graph(nodes, [value("x")], [value("y")], [(n("times"), np.array(3))])


GRAPHS = {"plain": plain, "branched": branched, "looped": looped}


def drawn(kind, seed):
    n = Drawn(seed)
    return n.model(GRAPHS[kind](n))


def canonical(model):
    canonicalize(model)
    return model.SerializeToString()


EXPECTED = {
    "plain": lambda x: (
        2 * np.where(x < -1, (x + 1) / 2, x + 1) @ np.arange(8).reshape(2, 4).T
        + 0.5 * (((x + 1) ** 2)[:, :2] - ((x + 1) ** 2)[:, 2:])
    ),
    "branched": lambda x: np.exp(x) - 5 - np.abs(x) if x.sum() > 0 else 2 * np.abs(x),
    "looped": lambda x: np.maximum(x / 8 - x / 4 - x / 2 - x, 0),
}


@pytest.mark.parametrize("kind", GRAPHS)
def test_graphs_of_other_names_and_orders_become_equal(kind):
    assert len({drawn(kind, seed).SerializeToString() for seed in range(30)}) == 30
    assert len({canonical(drawn(kind, seed)) for seed in range(30)}) == 1


@pytest.mark.parametrize("kind", GRAPHS)
def test_the_canonical_graph_is_valid_and_answers_alike(kind):
    model = drawn(kind, 0)
    canonicalize(model)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for x in (X, -X):
        (answer,) = session.run(None, {"x": x})
        np.testing.assert_allclose(answer, EXPECTED[kind](x), rtol=1e-5)


def test_what_no_output_needs_and_all_descriptions_are_left_out():
    model = drawn("plain", 0)
    canonicalize(model)
    assert "Exp" not in {node.op_type for node in model.graph.node}
    assert len(model.graph.initializer) == 4
    assert not model.graph.value_info
    assert "doc" not in str(model)


def test_a_canonical_graph_stays_as_it_is():
    once = canonical(drawn("branched", 0))
    assert canonical(onnx.ModelProto.FromString(once)) == once


def small(*nodes, given="x"):
    return helper.make_model(helper.make_graph([*nodes], "g", [value(given)], [value("y")]))


def test_networks_that_differ_stay_different():
    one, other = (
        small(helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Sub", operands, ["y"]))
        for operands in (["x", "n"], ["n", "x"])
    )
    assert canonical(one) != canonical(other)


def test_an_input_that_is_a_number_keeps_its_name():
    model = small(helper.make_node("Neg", ["0"], ["n"]), helper.make_node("Exp", ["n"], ["y"]), given="0")
    canonicalize(model)
    assert [[*node.input, *node.output] for node in model.graph.node] == [["0", "1"], ["1", "y"]]


def test_a_network_of_thousands_of_layers_is_sorted():
    names = ["x", *map(str, range(5000)), "y"]
    nodes = [helper.make_node("Neg", names[i : i + 1], names[i + 1 : i + 2]) for i in range(5001)]
    model = small(*reversed(nodes))
    canonicalize(model)
    assert model.graph.node[0].input == ["x"]
    assert model.graph.node[5000].output == ["y"]


@pytest.mark.parametrize(
    ("operands", "message"), [("y", "without cycles, got one through 'y'"), ("z", "got 'z', which nothing")]
)
def test_a_graph_that_cannot_be_run_is_refused(operands, message):
    with pytest.raises(ValueError, match=message):
        canonicalize(small(helper.make_node("Add", ["x", operands], ["y"])))
