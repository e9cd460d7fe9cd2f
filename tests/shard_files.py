"""Writes shards of each kind, as other programs write them."""

import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from PIL import Image


def picture(color, size=(24, 20)):
    """The bytes of a PNG of one color."""
    file = io.BytesIO()
    Image.new("RGB", size, tuple(color)).save(file, "PNG")
    return file.getvalue()


def write_parquet(path, rows, *, names=None, row_group_size=3):
    """Images and labels in the layout of the Hugging Face hub; `names` are those of `ClassLabel`."""
    table = pa.table(
        {
            "image": [{"bytes": content, "path": f"{at}.png"} for at, (content, _) in enumerate(rows)],
            "label": [label for _, label in rows],
        }
    )
    if names:
        features = {"label": {"names": list(names), "_type": "ClassLabel"}, "image": {"_type": "Image"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def write_tar(path, rows):
    """WebDataset: `0001.png` and `0001.cls` of each."""
    with tarfile.open(path, "w") as archive:
        for at, (content, label) in enumerate(rows):
            for suffix, data in (("png", content), ("cls", str(label).encode())):
                member = tarfile.TarInfo(f"{at:04}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


def write_tfrecord(path, rows):
    """`tf.train.Example`s as TensorFlow's own scripts for ImageNet name them."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content, label in rows:
            kind = (
                tf.train.Feature(bytes_list=tf.train.BytesList(value=[label.encode()]))
                if isinstance(label, str)
                else tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
            )
            encoded = tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))
            features = tf.train.Features(feature={"image/encoded": encoded, "image/class/label": kind})
            writer.write(tf.train.Example(features=features).SerializeToString())
    return path


WRITERS = {"parquet": write_parquet, "tar": write_tar, "tfrecord": write_tfrecord}
FIELDS = {
    "parquet": ("image", "label"),
    "tar": ("png", "cls"),
    "tfrecord": ("image/encoded", "image/class/label"),
}
