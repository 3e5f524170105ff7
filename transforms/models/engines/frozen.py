"""Freezing: a function with variables → a graph of constants, which engines can fold and fuse."""

from typing import Any

from tensorflow.python.framework import convert_to_constants


def graph(function: Any) -> bytes:
    """Returns the serialized GraphDef of a concrete function, with its variables as constants.

    This function omits the last step of TensorFlow's convert_variables_to_constants_v2, which makes a function of the
    graph. For Inception ResNet V2 that step takes four fifths of the time.

    Raises:
      Exception: TensorFlow's, if the function cannot be frozen.
    """
    data = convert_to_constants._FunctionConverterDataInEager(
        func=function, lower_control_flow=True, aggressive_inlining=False
    )
    graph_def, _ = convert_to_constants._replace_variables_by_constants(converter_data=data)
    serialized: bytes = graph_def.SerializeToString()
    return serialized


def function(function: Any) -> Any:
    """Returns a concrete function with its variables as constants.

    Raises:
      Exception: TensorFlow's, if the function cannot be frozen.
    """
    return convert_to_constants.convert_variables_to_constants_v2(function)
