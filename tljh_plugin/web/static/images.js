// The table of images: how many are selected, and a box that selects all of a page. Without it the form works too.

const form = document.getElementById("selection");

function boxes() {
  return [...form.querySelectorAll("input[name=id]")];
}

function count() {
  const chosen = boxes().filter((box) => box.checked).length;
  const said = document.getElementById("selected");
  said.dataset.none ??= said.textContent;
  said.textContent = chosen === 0 ? said.dataset.none
    : chosen === 1 ? said.dataset.one : said.dataset.many.replace("#", chosen);
  for (const button of form.querySelectorAll("[data-needs]")) button.disabled = chosen === 0;
  const all = document.getElementById("all-of-page");
  if (all) {
    all.checked = chosen > 0 && chosen === boxes().length;
    all.indeterminate = chosen > 0 && !all.checked;
  }
}

function offerAll() {
  const place = form.querySelector("thead th");
  const label = place?.querySelector(".unseen");
  if (!label || boxes().length === 0 || document.getElementById("all-of-page")) return;
  const all = document.createElement("input");
  all.type = "checkbox";
  all.id = "all-of-page";
  all.setAttribute("aria-label", label.textContent);
  all.addEventListener("change", () => {
    for (const box of boxes()) box.checked = all.checked;
    count();
  });
  place.append(all);
}

if (form) {
  offerAll();
  form.addEventListener("change", count);
  count();
  // The table may have been taken anew while something is being built.
  new MutationObserver(() => {
    offerAll();
    count();
  }).observe(form, { childList: true });
}
