"use strict";

// Tables: a click on a heading sorts by that column; numbers as numbers.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.textContent = "";
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => {
        const text = row.cells[place].dataset.value ?? row.cells[place].textContent;
        const parsed = Number(text);
        return text.trim() === "" || Number.isNaN(parsed) ? text : parsed;
      };
      const order = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
        if (x === y) return 0;
        return (x < y ? -1 : 1) * (down ? -1 : 1);
      };
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(order));
    });
  });
}

// Sheet: two pictures of a card lie on each other, the slider moves the seam.
const left = document.querySelector("#left");
const right = document.querySelector("#right");
const group = document.querySelector("#group");

function show() {
  for (const card of document.querySelectorAll(".card")) {
    card.hidden = group.value !== "" && !card.dataset.groups.split(" ").includes(group.value);
    const sources = JSON.parse(card.querySelector("script").textContent);
    const [under, over] = card.querySelectorAll("img");
    under.src = sources[left.value].picture;
    under.alt = left.value;
    over.src = sources[right.value].picture;
    over.alt = right.value;
    card.querySelector(".names").textContent =
      `${left.value} ${sources[left.value].score} | ${right.value} ${sources[right.value].score}`;
  }
}

if (left !== null) {
  for (const input of document.querySelectorAll(".card input[type=range]")) {
    input.addEventListener("input", () => {
      input.closest(".card").style.setProperty("--cut", `${input.value}%`);
    });
  }
  [left, right, group].forEach((control) => control.addEventListener("change", show));
  show();
}
