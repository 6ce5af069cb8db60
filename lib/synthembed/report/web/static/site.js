// What scrolls sideways can be reached and scrolled by key; what does not is no stop on the way.
const sideways = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
for (const box of document.querySelectorAll(".pst-scrollable-table-container, .highlight pre, .cell_output pre")) {
  sideways.observe(box);
}
