"""Protobuf messages by a short description, to parse configurations whose own packages are not installed."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

_SCALARS = {"string": 9, "int32": 5, "int64": 3, "bool": 8}


def parse(text, messages, root):
    """Parse text format as the message `root`; an unknown or a repeated field raises.

    Args:
        text: What a configuration file holds.
        messages: `{message: {field: type}}`; a type is a scalar's, another message's or `[...]` of one, a
            tuple of names is an enum.
        root: One of `messages`.
    """
    file = descriptor_pb2.FileDescriptorProto(name="config.proto", package="config", syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            repeated = isinstance(kind, list)
            kind = kind[0] if repeated else kind
            added = message.field.add(name=field, number=number, label=3 if repeated else 1)
            if isinstance(kind, tuple):
                enum = message.enum_type.add(name=f"E{number}")
                for value, each in enumerate(kind):
                    enum.value.add(name=each, number=value)
                added.type, added.type_name = 14, f".config.{name}.E{number}"
            elif kind in _SCALARS:
                added.type = _SCALARS[kind]
            else:
                added.type, added.type_name = 11, f".config.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    cls = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"config.{root}"))
    return text_format.Parse(text, cls())
