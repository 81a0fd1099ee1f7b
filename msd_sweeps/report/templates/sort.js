const number = text => parseFloat(text.replace("−", "-").replace(/,|^[<+]/g, ""));
function sort(head) {
  const column = head.cellIndex, body = head.closest("table").tBodies[0], numeric = head.classList.contains("n");
  const down = head.ariaSort ? head.ariaSort === "ascending" : numeric, sign = down ? -1 : 1;
  const compare = (a, b) => {
    const [x, y] = [a, b].map(row => row.cells[column].textContent.trim());
    if (!numeric) return sign * x.localeCompare(y);
    const [m, n] = [number(x), number(y)];
    return isNaN(m) || isNaN(n) ? isNaN(m) - isNaN(n) : sign * (m - n);  // rows without a number stay below
  };
  body.append(...[...body.rows].sort(compare));
  for (const other of head.parentNode.cells) other.ariaSort = null;
  head.ariaSort = down ? "descending" : "ascending";
}
for (const head of document.querySelectorAll("thead th")) {
  head.tabIndex = 0;
  head.title = "sort by this column";
  head.addEventListener("click", () => sort(head));
  head.addEventListener("keydown", event => event.key === "Enter" && sort(head));
}
