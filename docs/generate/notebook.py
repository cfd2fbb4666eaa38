"""Run the cells of a notebook in order, without Jupyter; as a program, keep what they show.

`.venv/bin/python docs/generate/notebook.py` runs docs/tutorials/quickstart.ipynb on the project's own store.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

QUICKSTART = Path(__file__).parents[1] / "tutorials" / "quickstart.ipynb"


def execute(notebook: dict[str, Any], given: dict[str, Any] | None = None) -> list[Any]:
    """Run all code cells in one namespace; return the value of each one's last expression, None where it has none."""
    namespace: dict[str, Any] = {"__name__": "__main__"} | (given or {})
    values = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            values.append(_run("".join(cell["source"]), namespace))
    return values


def _run(source: str, namespace: dict[str, Any]) -> Any:
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), namespace)
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace) if last else None


def show(value: Any) -> list[dict[str, Any]]:
    """Write a value as the outputs of a cell."""
    if value is None:
        return []
    data = {"text/plain": str(value) if isinstance(value, str) else repr(value)}
    if hasattr(value, "to_html"):
        data["text/html"] = value.to_html(index=False, float_format="{:.4f}".format)
    lines = {kind: text.splitlines(keepends=True) for kind, text in data.items()}
    return [{"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": lines}]


def page() -> str:
    """Write the quickstart as a page: its text, code and outputs."""
    parts = []
    for cell in json.loads(QUICKSTART.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", []):
            data = {kind: "".join(lines) for kind, lines in output["data"].items()}
            table = data.get("text/html", "").replace(' border="1" class="dataframe"', "")
            parts.append(table or f"```text\n{data['text/plain']}\n```")
    return "\n\n".join(parts)


def main() -> None:
    """Run the quickstart, and write its outputs into it."""
    notebook = json.loads(QUICKSTART.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, (cell, value) in enumerate(zip(cells, execute(notebook), strict=True), 1):
        outputs = show(value)
        cell |= {
            "execution_count": number,
            "outputs": [output | {"execution_count": number} for output in outputs],
        }
    QUICKSTART.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
