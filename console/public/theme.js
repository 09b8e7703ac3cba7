// Before the first paint: the theme that was chosen here. A file of its own, since the page policy allows no script in a page.
try {
  var theme = localStorage.getItem("tutti.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch (e) {
  // No storage: the system's theme.
}
