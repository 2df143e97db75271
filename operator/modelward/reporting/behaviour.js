"use strict";
// The page is whole without this: it filters and sorts, and opens what is closed before printing.
(() => {
  const find = (selector, root = document) => [...root.querySelectorAll(selector)];
  const tools = document.getElementById("tools");
  const words = document.getElementById("filter");
  const only = document.getElementById("only-findings");
  const shown = document.getElementById("shown");
  const named = find("[data-model]");
  const total = find("details[data-model]").length;

  const apply = () => {
    const wanted = words.value.trim().toLowerCase();
    let count = 0;
    for (const one of named) {
      one.hidden = !one.dataset.model.includes(wanted) || (only.checked && !one.hasAttribute("data-findings"));
      if (one.localName === "details" && !one.hidden) count += 1;
    }
    shown.textContent = `${count} of ${total} models shown`;
  };
  if (tools && total) {
    tools.hidden = false;
    words.addEventListener("input", apply);
    only.addEventListener("change", apply);
    shown.textContent = `${total} of ${total} models shown`;
  }

  const key = (row, column) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
  for (const heading of find("table.sortable thead th")) {
    const button = document.createElement("span"); // a real button would not be repeated on the next printed page
    button.setAttribute("role", "button");
    button.tabIndex = 0;
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      button.click();
    });
    button.addEventListener("click", () => {
      const falling = heading.ariaSort === "ascending";
      for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
      heading.ariaSort = falling ? "descending" : "ascending";
      const body = heading.closest("table").tBodies[0];
      const order = new Intl.Collator("en", { numeric: true }).compare;
      const rows = [...body.rows].sort((a, b) => order(key(a, heading.cellIndex), key(b, heading.cellIndex)));
      body.append(...(falling ? rows.reverse() : rows));
    });
  }

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = find("details:not([open])");
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of opened) one.open = false;
  });
})();
