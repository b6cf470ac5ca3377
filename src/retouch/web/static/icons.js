// Line icons, 24 x 24, drawn for this page.

const PATHS = {
  open: "M3 7h6l2 2h10v10H3z",
  film: "M3 5h18v14H3zM7 5v14m10-14v14M3 10h4m10 0h4M3 14h4m10 0h4",
  left: "m14 6-6 6 6 6",
  right: "m10 6 6 6-6 6",
  save: "M12 4v11m-5-5 5 5 5-5M4 20h16",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  undo: "M8 5 4 9l4 4M4 9h10a5 5 0 0 1 0 10h-3",
  redo: "m16 5 4 4-4 4m4-4H10a5 5 0 0 0 0 10h3",
  minus: "M5 12h14",
  plus: "M5 12h14M12 5v14",
  fit: "M4 9V4h5m6 0h5v5m0 6v5h-5m-6 0H4v-5",
  eye: "M2 12s4-6 10-6 10 6 10 6-4 6-10 6S2 12 2 12zm10-3a3 3 0 1 0 0 6 3 3 0 0 0 0-6z",
  slider: "M12 3v18M4 7h5v10H4zm11 0h5v10h-5z",
  difference: "M9 4a7 7 0 1 0 0 14A7 7 0 0 0 9 4zm6 2a7 7 0 1 1-4 12",
  theme: "M12 4a8 8 0 1 0 0 16zm0 0a8 8 0 0 1 0 16",
  brush: "M4 20c4 0 5-2 5-4l9-11 2 2-11 9c-1 0-2 0-2 2",
  eraser: "m4 15 9-10 7 6-8 9H8zm5-5 7 6",
  rectangle: "M4 6h16v12H4z",
  lasso: "M12 4c5 0 9 2 9 5s-4 6-9 6-9-3-9-6 4-5 9-5zM7 14c-2 1-2 4 1 4 2 0 2 3-1 3",
  polygon: "m5 9 8-5 7 7-4 9H6z",
  select: "M12 3v5m0 8v5M3 12h5m8 0h5M12 11v2",
  takeAway: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM8 12h8",
  bucket: "m5 12 7-7 7 7-7 7zM12 5V2m8 13c2 3 2 5 0 5s-2-2 0-5",
  eyedropper: "m4 20 1-4 8-8 3 3-8 8zm10-13 3-3 3 3-3 3",
  hand: "M8 12V6a1.5 1.5 0 0 1 3 0v5-7a1.5 1.5 0 0 1 3 0v7-5a1.5 1.5 0 0 1 3 0v9c0 4-2 6-5 6s-4-1-6-4l-3-5c1-1 2-1 3 0z",
};

export function addIcons() {
  for (const button of document.querySelectorAll("[data-i]")) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("aria-hidden", "true");
    const path = document.createElementNS(svg.namespaceURI, "path");
    path.setAttribute("d", PATHS[button.dataset.i]);
    svg.append(path);
    button.prepend(svg);
  }
}
