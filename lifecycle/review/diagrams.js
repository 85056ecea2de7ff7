// The diagrams: a tab for each picture, sizes, and a panel that shows what was chosen. Without this script everything is
// shown at once.
(() => {
  "use strict";
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  document.documentElement.classList.add("scripted");

  // --- Tabs ---
  const tabs = all('[role="tab"]');
  const figure = (tab) => document.getElementById(tab.getAttribute("aria-controls"));
  function open(tab) {
    for (const one of tabs) {
      const chosen = one === tab;
      one.setAttribute("aria-selected", String(chosen));
      one.tabIndex = chosen ? 0 : -1;
      figure(one).hidden = !chosen;
    }
  }
  tabs.forEach((tab, place) => {
    tab.addEventListener("click", () => open(tab));
    tab.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowRight: 1 };
      if (!(event.key in steps)) return;
      const next = tabs[(place + steps[event.key] + tabs.length) % tabs.length];
      open(next);
      next.focus();
    });
  });
  open(tabs[0]);

  // --- Sizes ---
  let scale = 0;
  for (const button of all("[data-zoom]")) {
    button.addEventListener("click", () => {
      const step = Number(button.dataset.zoom);
      scale = step === 0 ? 0 : Math.max(0, Math.min(6, scale + step));
      for (const svg of all(".picture svg")) svg.style.width = `${100 + 30 * scale}%`;
    });
  }

  // --- Choosing ---
  const details = new Map(all(".detail").map((detail) => [detail.id, detail]));
  const hint = document.querySelector(".panel .hint");
  function choose(id) {
    for (const [name, detail] of details) detail.hidden = name !== id;
    hint.hidden = details.has(id);
    for (const part of all("[data-detail]")) {
      const chosen = part.dataset.detail === id;
      part.classList.toggle("chosen", chosen);
      if (part.hasAttribute("aria-pressed")) part.setAttribute("aria-pressed", String(chosen));
    }
    document.documentElement.classList.toggle("choosing", details.has(id));
  }
  for (const part of all("[data-detail]")) {
    part.addEventListener("click", () => choose(part.dataset.detail));
    part.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        choose(part.dataset.detail);
      }
      if (event.key === "Escape") choose(null);
    });
  }
  for (const link of all("[data-select]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      choose(link.dataset.select);
      details.get(link.dataset.select).focus();
    });
  }
  const named = decodeURIComponent(location.hash.slice(1));
  choose(details.has(named) ? named : null);
})();
