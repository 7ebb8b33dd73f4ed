"""A network in OpenVINO's exchange format (an XML of layers, a file of numbers) as ONNX, so that one runtime serves for all.

Just the operations of the networks that Vigil uses, every shape fixed as the XML states it: what only works shapes out is left away.
"""

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from workspace.errors import ModelFileError

if TYPE_CHECKING:
    from onnx import ModelProto

NUMBERS = {"f32": np.float32, "i32": np.int32, "i64": np.int64}
ELEMENTWISE = {"Add": "Add", "Multiply": "Mul", "Power": "Pow", "PReLU": "PRelu"}
SHAPED = {"Reshape": "Reshape", "Unsqueeze": "Reshape", "Squeeze": "Reshape", "Tile": "Expand", "Broadcast": "Expand"}
CONVOLUTIONS = {"Convolution": "Conv", "GroupConvolution": "Conv", "GroupConvolutionBackpropData": "ConvTranspose"}
OPSET, IR_VERSION = 17, 8
UNKNOWN, EXPORT = "Cannot translate a network from OpenVINO's format.", "Export it as ONNX instead."
Port = tuple[str, str]  # of a layer, and of one of its outputs


def to_onnx(layers: bytes, numbers: bytes) -> "ModelProto":
    """The ONNX model of an XML and its numbers, with one input and one output. Raises ModelFileError for an operation that is not known here."""
    return _Translation(ET.fromstring(layers), numbers).model()


class _Translation:
    def __init__(self, root: ET.Element, numbers: bytes) -> None:
        self._layers = {str(layer.get("id")): layer for layer in root.iterfind("layers/layer")}
        self._feeds = {(edge.get("to-layer"), edge.get("to-port")): (str(edge.get("from-layer")), str(edge.get("from-port"))) for edge in root.iter("edge")}
        self._constants: dict[Port, NDArray[np.generic]] = {}
        for number, layer in self._layers.items():
            if layer.get("type") == "Const":
                self._constants[(number, str(layer.findall("output/port")[0].get("id")))] = _constant(layer, numbers)
        self._held: dict[str, NDArray[np.generic]] = {}  # tensors of the ONNX file

    def model(self) -> "ModelProto":
        from onnx import TensorProto, helper, numpy_helper

        nodes, given, made = [], None, None
        for number, layer in self._layers.items():
            if layer.get("type") == "Parameter":
                given = helper.make_tensor_value_info(_name(self._outputs(number)[0]), TensorProto.FLOAT, _shape(layer.findall("output/port")[0]))
            elif layer.get("type") == "Result":
                made = helper.make_tensor_value_info(_name(self._inputs(number)[0]), TensorProto.FLOAT, None)
            elif layer.get("type") != "Const" and layer.findall("output/port")[0].get("precision") == "FP32":  # whole numbers only work shapes out
                kind, inputs, attributes = self._translate(number, layer)
                nodes.append(helper.make_node(kind, inputs, [_name(port) for port in self._outputs(number)], **attributes))
        held = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in self._held.items()]
        graph = helper.make_graph(nodes, "generator", [given], [made], held)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)

    def _translate(self, number: str, layer: ET.Element) -> tuple[str, list[str], dict[str, object]]:
        """ONNX operation, names of its inputs and attributes of one layer."""
        kind, ports = str(layer.get("type")), layer.findall("output/port")
        sources, said = self._inputs(number), (found.attrib if (found := layer.find("data")) is not None else {})
        if kind in ELEMENTWISE:
            return ELEMENTWISE[kind], [self._used(port) for port in sources], {}
        if kind in SHAPED:
            return SHAPED[kind], [self._used(sources[0]), self._hold(number, np.array(_shape(ports[0]), np.int64))], {}
        if kind == "Concat":
            return "Concat", [self._used(port) for port in sources], {"axis": int(said["axis"])}
        if kind == "ReduceMean" and said["keep_dims"] == "true":
            return "ReduceMean", [self._used(sources[0])], {"axes": self._whole(sources[1]), "keepdims": 1}
        if kind == "VariadicSplit":
            (axis,) = self._whole(sources[1])
            return "Split", [self._used(sources[0]), self._hold(number, np.array([_shape(port)[axis] for port in ports], np.int64))], {"axis": axis}
        if kind == "MatMul" and said["transpose_a"] == "false" and sources[1] in self._constants:
            weights = self._constants[sources[1]]
            return "MatMul", [self._used(sources[0]), self._hold(number, weights.T if said["transpose_b"] == "true" else weights)], {}
        if kind in CONVOLUTIONS and said["auto_pad"] == "explicit" and sources[1] in self._constants:
            weights, whole = self._constants[sources[1]], {name: [int(one) for one in value.split(",")] for name, value in said.items() if name != "auto_pad"}
            attributes: dict[str, object] = {"strides": whole["strides"], "dilations": whole["dilations"], "pads": whole["pads_begin"] + whole["pads_end"]}
            attributes |= {"output_padding": whole["output_padding"]} if "output_padding" in whole else {}
            if kind != "Convolution":  # [groups, a, b, h, w] here, [groups * a, b, h, w] there
                attributes["group"], weights = weights.shape[0], weights.reshape(-1, *weights.shape[2:])
            return CONVOLUTIONS[kind], [self._used(sources[0]), self._hold(number, weights)], attributes
        why = f"layer {layer.get('name')!r} is a {kind} with {dict(said)}"
        raise ModelFileError(UNKNOWN, why=why, next_step=EXPORT)

    def _inputs(self, number: str) -> list[Port]:
        return [self._feeds[(number, port.get("id"))] for port in self._layers[number].findall("input/port")]

    def _outputs(self, number: str) -> list[Port]:
        return [(number, str(port.get("id"))) for port in self._layers[number].findall("output/port")]

    def _used(self, port: Port) -> str:
        if port in self._constants:
            self._held[_name(port)] = self._constants[port]
        return _name(port)

    def _hold(self, number: str, value: NDArray[np.generic]) -> str:
        self._held[f"{number}.held"] = value
        return f"{number}.held"

    def _whole(self, port: Port) -> list[int]:
        return [int(one) for one in self._constants[port].ravel()]


def _name(port: Port) -> str:
    return ":".join(port)


def _shape(port: ET.Element) -> list[int]:
    return [int(str(side.text)) for side in port.findall("dim")]


def _constant(layer: ET.Element, numbers: bytes) -> NDArray[np.generic]:
    said = layer.findall("data")[0].attrib
    if said["element_type"] not in NUMBERS:
        raise ModelFileError(UNKNOWN, why=f"layer {layer.get('name')!r} holds numbers of type {said['element_type']}", next_step=EXPORT)
    shape = [int(side) for side in said["shape"].split(",") if side]
    found: NDArray[np.generic] = np.frombuffer(numbers, NUMBERS[said["element_type"]], count=int(np.prod(shape)), offset=int(said["offset"])).reshape(shape)
    return found
