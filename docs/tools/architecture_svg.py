"""Draws the pictures of docs/architecture.md; rerun it when a package comes or goes.

python docs/tools/architecture_svg.py
"""

import html
from pathlib import Path

IMAGES = Path(__file__).parents[1] / "images"
# Each step of the way: a title, what happens, and the packages that do it.
FLOW = (
    ("Data", "folder, table or TFDS", "data"),
    ("Audit and split", "leaks, duplicates, groups", "audit"),
    ("Cached features", "frozen backbone runs once", "features"),
    ("Solved head", "logistic regression", "training"),
    ("Unfreezing", "block by block, from the top", "training"),
    ("Run folder", "model, manifest, report", "runs"),
    ("Export", "SavedModel, TFLite, ONNX", "exporting"),
    ("Parity", "own runtime against Keras", "exporting"),
    ("Deployment kit", "without Keras: export/", ""),
)
# From the top: what stands higher may import what stands lower.
LAYERS = (
    (("cli",), "one module a verb"),
    (("demo", "commands"), "the verbs as functions"),
    (("shrinking", "searching", "pretraining"), "searches, unlabeled data"),
    (("reporting", "distillation", "runs"), "what a run holds, shows and teaches"),
    (("image", "text"), "the two modalities"),
    (("audit", "exporting", "quantization", "pruning"), "checks and formats"),
    (("tasks", "training", "features", "evaluation"), "how it learns"),
    (("models", "data"), "backbones and examples"),
    (("recipes", "utils", "security", "core"), "plain Python: recipes, files, protocols"),
)
STYLE = """<style>
text { font-family: system-ui, sans-serif; fill: #1b3a3a; }
.title { font-size: 15px; font-weight: 600; } .note { font-size: 12px; }
.code { font-size: 12px; font-family: monospace; }
.box { fill: #e0f2f1; stroke: #00796b; } .page { fill: #ffffff; }
.line { stroke: #00796b; stroke-width: 1.5; fill: none; }
</style>"""


def picture(width, height, title, body):
    """An SVG with a white page, so that it can be read on dark pages too."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{html.escape(title)}">\n{STYLE}\n'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#00796b"/></marker></defs>\n'
        f'<rect class="page" width="{width}" height="{height}" rx="8"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def text(x, y, content, kind):
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="middle">{html.escape(content)}</text>'


def box(x, y, width, height):
    return f'<rect class="box" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>'


def flow():
    """Three rows of three boxes, joined in the order of `FLOW`."""
    wide, high, gap_x, gap_y, edge = 220, 84, 50, 44, 20
    body = []
    for number, (title, note, package) in enumerate(FLOW):
        row, column = divmod(number, 3)
        x, y = edge + column * (wide + gap_x), edge + row * (high + gap_y)
        middle = x + wide / 2
        body.append(box(x, y, wide, high))
        body += [text(middle, y + 27, title, "title"), text(middle, y + 48, note, "note")]
        body.append(text(middle, y + 69, f"ktransfer/{package}/" if package else "export/", "code"))
        if number + 1 == len(FLOW):
            continue
        if column < 2:
            body.append(
                f'<path class="line" marker-end="url(#tip)" d="M{x + wide},{y + high / 2} h{gap_x}"/>'
            )
        else:
            left, turn = edge + wide / 2, y + high + gap_y / 2
            path = f"M{middle},{y + high} V{turn} H{left} V{y + high + gap_y}"
            body.append(f'<path class="line" marker-end="url(#tip)" d="{path}"/>')
    width, height = 2 * edge + 3 * wide + 2 * gap_x, 2 * edge + 3 * high + 2 * gap_y
    return picture(width, height, "From data to verified files", body)


def layers():
    """A row of boxes for each layer, and an arrow downward."""
    wide, high, gap, edge = 800, 46, 10, 20
    body = []
    for row, (packages, note) in enumerate(LAYERS):
        y = edge + row * (high + gap)
        each = (520 - gap * (len(packages) - 1)) / len(packages)
        for column, package in enumerate(packages):
            x = edge + 40 + column * (each + gap)
            body += [box(x, y, each, high), text(x + each / 2, y + 28, f"{package}/", "code")]
        body.append(f'<text class="note" x="{edge + 580}" y="{y + 28}">{html.escape(note)}</text>')
    height = 2 * edge + len(LAYERS) * (high + gap) - gap
    body.append(f'<path class="line" marker-end="url(#tip)" d="M{edge + 15},{edge} V{height - edge}"/>')
    return picture(wide + 2 * edge, height, "The packages in their order of import", body)


def pictures():
    """The content of each file by its name."""
    return {"architecture.svg": flow(), "layers.svg": layers()}


def main():
    for name, content in pictures().items():
        (IMAGES / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
