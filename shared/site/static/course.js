// What is folded is printed too: open it before, and close it again behind.
const folded = () => document.querySelectorAll("details:not([open])");
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...folded()];
  opened.forEach((details) => (details.open = true));
});
addEventListener("afterprint", () => opened.forEach((details) => (details.open = false)));

// What is wider than the page is scrolled by itself, with the keyboard too.
const reachable = () =>
  document.querySelectorAll(".bd-article table, .bd-article pre").forEach((box) => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  });
addEventListener("load", reachable);
addEventListener("resize", reachable);
