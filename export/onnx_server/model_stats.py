"""The answer to `/v2/models/NAME/stats`: the statistics extension of the protocol."""

import collections
import time


class ModelStats:
    """Counts and times since the start, all in nanoseconds in `described`.

    Example:
        >>> stats = ModelStats()
        >>> stats.batch(2, 0.5, [0.1, 0.2])
        >>> stats.described("classifier", "1")["model_stats"][0]["execution_count"]
        1
    """

    def __init__(self):
        self._last_ms = 0
        self._durations = collections.defaultdict(lambda: [0, 0])  # [count, nanoseconds]
        self._batches = collections.defaultdict(lambda: [0, 0])

    def request(self, seconds, *, success):
        """Count one request for answers, and how long it took."""
        _add(self._durations["success" if success else "fail"], 1, seconds)
        self._last_ms = time.time_ns() // 10**6

    def read(self, count, seconds):
        """Count examples that were decoded or tokenized together."""
        _add(self._durations["compute_input"], count, seconds)

    def batch(self, size, seconds, waits):
        """Count one run of the model: its rows, its seconds, and each row's seconds of waiting."""
        _add(self._durations["queue"], size, sum(waits))
        _add(self._durations["compute_infer"], size, seconds)
        _add(self._batches[size], 1, seconds)

    def described(self, name, version):
        """Return the JSON value of the statistics extension.

        Args:
            name: Of the model.
            version: Of the model.

        Returns:
            A dictionary. `inference_count` is in examples, `execution_count` in runs of the model.
        """
        kinds = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
        kinds += ("cache_hit", "cache_miss")
        batches = sorted(self._batches.items())
        return {
            "model_stats": [
                {
                    "name": name,
                    "version": version,
                    "last_inference": self._last_ms,
                    "inference_count": sum(size * count for size, (count, _) in batches),
                    "execution_count": sum(count for _, (count, _) in batches),
                    "inference_stats": {kind: _described(self._durations.get(kind)) for kind in kinds},
                    "batch_stats": [
                        {
                            "batch_size": size,
                            "compute_input": _described(None),
                            "compute_infer": _described(duration),
                            "compute_output": _described(None),
                        }
                        for size, duration in batches
                    ],
                }
            ]
        }


def _add(duration, count, seconds):
    duration[0] += count
    duration[1] += int(seconds * 1e9)


def _described(duration):
    count, nanoseconds = duration or (0, 0)
    return {"count": count, "ns": nanoseconds}
