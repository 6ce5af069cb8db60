// What scrolls sideways can be reached and scrolled by key.
for (const box of document.querySelectorAll(".pst-scrollable-table-container, .highlight pre, .cell_output pre")) {
  box.tabIndex = 0;
}
