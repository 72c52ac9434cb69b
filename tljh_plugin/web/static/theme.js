// Classic, in the head, so that the page never shows in the wrong colours first.
(() => {
  try {
    const chosen = localStorage.getItem("jupyterhub-bs-theme"); // set by JupyterHub's own pages
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.bsTheme = chosen;
  } catch {
    // no storage: the browser's preference stays
  }
})();
