// "What happens to an account": a form, and the timeline that the engine's rules give it.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const { words, policies, examples } = data;
  const { life } = reader(data.definition);
  const form = document.getElementById("life");
  const moments = document.getElementById("moments");
  const lives = document.getElementById("lives");
  const problem = document.getElementById("problem");
  const DAY = 86_400_000_000; // microseconds
  const LATEST = Date.UTC(2200, 0) * 1000;

  // --- Small helpers ---
  function make(tag, content = [], attributes = {}) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...[content].flat());
    return element;
  }
  const micros = (date) => (date ? Date.parse(`${date}T00:00:00Z`) * 1000 : null);
  const iso = (milliseconds) => new Date(milliseconds).toISOString().slice(0, 10);
  const FORMAT = { timeZone: "UTC", day: "numeric", month: "short", year: "numeric" };
  function day(instant) {
    const date = new Date(instant / 1000);
    const time = instant % DAY === 0 ? "" : `, ${date.toISOString().slice(11, 16)} UTC`;
    return date.toLocaleDateString("en-GB", FORMAT) + time;
  }
  const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
  const sentence = (text) => capital(text) + (/[.!?]$/.test(text) ? "" : ".");
  function monthsLater(date, months) {
    const [year, month, dayOfMonth] = date.split("-").map(Number);
    const last = new Date(Date.UTC(year, month + months, 0)).getUTCDate();
    return iso(Date.UTC(year, month - 1 + months, Math.min(dayOfMonth, last)));
  }

  // --- The form ---
  const chosen = (select) => select.selectedOptions[0];
  const months = () => Number(chosen(form.elements.plan).dataset.months ?? 0);
  function adapt() {
    const paid = months() > 0;
    form.querySelector("[data-paid]").hidden = !paid;
    form.elements.paidUntil.required = paid;
    for (const row of moments.children) {
      const takes = "period" in chosen(row.querySelector("[name=event]")).dataset;
      row.querySelector("label[data-period]").hidden = !takes;
    }
  }
  function add({ at, event, role, period } = {}) {
    const row = document.getElementById("moment").content.firstElementChild.cloneNode(true);
    moments.append(row);
    const last = [...moments.querySelectorAll("[name=at]")].map(({ value }) => value).sort().at(-1);
    row.querySelector("[name=at]").value = at ?? (last || form.elements.opened.value);
    row.querySelector("[name=event]").value = event ? `${event} ${role}` : "cancel owner";
    row.querySelector("[name=period]").value = period ?? "";
    row.querySelector(".remove").addEventListener("click", () => {
      row.remove();
      show();
      document.getElementById("add").focus();
    });
    adapt();
    return row;
  }
  function fill(example) {
    const { plan, opened, paidUntil } = example;
    const annual = paidUntil && paidUntil > monthsLater(opened, 6);
    const options = [...form.elements.plan.options].filter(({ value }) => value === plan);
    options[annual ? options.length - 1 : 0].selected = true;
    form.elements.opened.value = opened;
    form.elements.paidUntil.value = paidUntil;
    moments.replaceChildren();
    example.moments.forEach(add);
    adapt();
    show();
  }
  function read() {
    const paid = months() > 0;
    const asked = [...moments.children].map((row) => {
      const [event, role] = row.querySelector("[name=event]").value.split(" ");
      const takes = "period" in chosen(row.querySelector("[name=event]")).dataset;
      const period = takes ? micros(row.querySelector("[name=period]").value) : null;
      return { at: micros(row.querySelector("[name=at]").value), event, role, period };
    });
    return {
      plan: form.elements.plan.value,
      opened: micros(form.elements.opened.value),
      paidUntil: paid ? micros(form.elements.paidUntil.value) : null,
      moments: asked.sort((a, b) => a.at - b.at),
    };
  }
  function wrong({ opened, paidUntil, moments: asked }) {
    if (!form.checkValidity()) return "A date is missing, or out of reach; fill it in.";
    if (paidUntil !== null && paidUntil <= opened) return "The paid period must end after the account is opened.";
    if (asked.some(({ at }) => at < opened)) return "Something is asked of the account before it is opened.";
    return null;
  }

  // --- The timeline ---
  // What is asked for is delivered at once here, and what is requested is confirmed at once: one line each.
  const UNSEEN = ["notice", "request"];
  function phrase(entry) {
    if (entry.step === "open") return `The account is opened (plan: ${entry.account.plan}).`;
    if (entry.step === "refused") return `Refused: ${words.events[entry.event]} (${words.roles[entry.by]}).`;
    if (entry.step === "remind") {
      const what = entry.owes.map((effect) => words.effects[effect]).join("; ");
      return sentence(`${what}${entry.promised === null ? "" : `, on ${day(entry.promised)}`}`);
    }
    return sentence(words.events[entry.event] + (entry.by ? ` (asked by: ${words.roles[entry.by]})` : ""));
  }
  const PROMISES = ["access_ends_at", "delete_content_at", "purge_backups_by"];
  function remarks(entry, before) {
    if (entry.step === "refused") return entry.reasons;
    if (entry.step !== "fire") return [];
    const found = entry.owes.map((effect) => sentence(words.effects[effect]));
    const [access, deletion, purge] = PROMISES.map((name) => entry.account[name]);
    if (access !== null && PROMISES.some((name) => entry.account[name] !== before?.account[name])) {
      found.push(`Promised: access until ${day(access)}, deletion on ${day(deletion)}, backups gone by ${day(purge)}.`);
    }
    return found;
  }
  const level = ({ content, use, sign_in: signIn }) => (!content ? "gone" : !signIn ? "none" : use ? "full" : "limited");
  const LEVELS = { full: "Full access", limited: "Sign in and export", none: "No access", gone: "Content gone" };

  function strip(entries, end) {
    const NS = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(NS, "svg");
    svg.setAttribute("viewBox", "0 0 1000 14");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    svg.setAttribute("class", "strip");
    const begin = entries[0].at;
    const place = (at) => ((at - begin) / Math.max(1, end - begin)) * 1000;
    const changes = entries.filter(({ grants }, n) => n === 0 || level(grants) !== level(entries[n - 1].grants));
    changes.forEach((entry, number) => {
      const until = number + 1 < changes.length ? changes[number + 1].at : end;
      const bar = document.createElementNS(NS, "rect");
      bar.setAttribute("x", place(entry.at));
      bar.setAttribute("width", Math.max(0, place(until) - place(entry.at)));
      bar.setAttribute("height", 14);
      bar.setAttribute("class", level(entry.grants));
      svg.append(bar);
    });
    return svg;
  }
  // Entries of two lives belong together when they are the same step of the same event, counted from the beginning.
  function named(entries) {
    const counts = {};
    return entries.map((entry) => {
      const name = `${entry.event} ${entry.step}`;
      counts[name] = (counts[name] ?? 0) + 1;
      return [`${name} ${counts[name]}`, entry];
    });
  }
  function apart(instant, other) {
    const days = Math.round(Math.abs(instant - other) / DAY);
    return `${days ? `${days} day${days === 1 ? "" : "s"}` : "less than a day"} ${instant > other ? "later" : "sooner"}`;
  }
  // What to say beside an entry that differs from the other life: the candidate is told by what is in force.
  function difference(name, entry, other, candidate) {
    const twin = other?.get(name);
    if (!other || twin?.at === entry.at) return null;
    if (!twin) return candidate ? "only under the candidate" : "not under the candidate";
    return candidate ? apart(entry.at, twin.at) : "";
  }
  function table(policy, entries, other, candidate) {
    const body = make("tbody");
    let before = null;
    for (const [name, entry] of named(entries)) {
      const differs = difference(name, entry, other, candidate);
      const text = make("td", make("p", phrase(entry)));
      for (const remark of remarks(entry, before)) text.append(make("p", remark, { class: "soft" }));
      if (differs) text.append(make("p", make("mark", capital(differs))));
      const has = level(entry.grants);
      const row = make("tr", [
        make("th", day(entry.at), { scope: "row" }),
        text,
        make("td", [make("code", entry.dest), make("p", LEVELS[has], { class: `access ${has}` })]),
      ], { class: `${entry.step}${differs === null ? "" : " differs"}` });
      body.append(row);
      before = entry;
    }
    const heads = ["Day", "What happens", "State"].map((text) => make("th", text, { scope: "col" }));
    const caption = make("caption", policy.name === "" ? "Timeline" : [`${policy.name}, policy `, make("code", policy.version)]);
    return make("table", [caption, make("thead", make("tr", heads)), body], { class: "life" });
  }
  function ending({ account, entries }) {
    if (account.state === data.final) return "Nothing is left of the account.";
    return `It stays ${account.state} (${words.states[account.state]}) until something is asked of it.`;
  }
  function show() {
    const scenario = read();
    const fault = wrong(scenario);
    problem.hidden = fault === null;
    problem.textContent = fault ?? "";
    if (fault !== null) return lives.replaceChildren();
    const lived = policies.map((policy) => life(policy.settings, scenario, LATEST));
    const seen = lived.map(({ entries }) => entries.filter(({ step }) => !UNSEEN.includes(step)));
    const end = Math.max(...seen.map((entries) => entries.at(-1).at)) + 20 * DAY;
    const maps = seen.map((entries) => new Map(named(entries)));
    lives.replaceChildren(
      ...policies.map((policy, place) =>
        make("section", [
          strip(seen[place], end),
          table(policy, seen[place], policies.length > 1 ? maps[1 - place] : null, place > 0),
          make("p", ending(lived[place]), { class: "soft" }),
        ], { "aria-label": policy.name }),
      ),
    );
    lives.classList.toggle("two", policies.length > 1);
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    if (["plan", "opened"].includes(event.target.name) && months() && form.elements.opened.value) {
      form.elements.paidUntil.value = monthsLater(form.elements.opened.value, months());
    }
    adapt();
    show();
  });
  document.getElementById("add").addEventListener("click", () => {
    add().querySelector("[name=at]").focus();
    show();
  });
  for (const button of form.querySelectorAll("[data-example]")) {
    button.addEventListener("click", () => fill(examples[Number(button.dataset.example)]));
  }
  fill(examples[0]);
})();
