// The history: one picture per fill, strokes counted between them.

import { t } from "./strings.js";

export function drawHistory(list, app) {
  const { doc } = app;
  list.replaceChildren();
  if (!doc) return;
  const entries = [...doc.done, ...doc.undone.toReversed()];
  const marks = [{ count: 0, label: t("start"), thumbnail: doc.first }];
  entries.forEach((entry, index) => {
    if (entry.thumbnail) marks.push({ count: index + 1, label: entry.label || t(entry.kind), thumbnail: entry.thumbnail });
  });
  const now = doc.done.length;
  const here = marks.findLast((mark) => mark.count <= now);
  for (const mark of marks) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    if (mark.thumbnail) button.append(mark.thumbnail);
    button.append(mark.label);
    button.setAttribute("aria-pressed", String(mark === here));
    button.onclick = () => {
      doc.goTo(mark.count);
      app.view.refresh();
    };
    item.append(button);
    list.append(item);
  }
}
