// Lives an account's life by the definition that the engine exported. No rule is written here: what a deadline is, who
// may ask and what changes are terms of the definition, and this reads them. Instants are microseconds since 1970.

function reader(definition) {
  "use strict";

  // --- Terms: a null operand makes a strict operation null, as in SQL ---
  const strict = (compute) => (a, b) => (s) => {
    const x = a(s);
    if (x === null) return null;
    const y = b(s);
    return y === null ? null : compute(x, y);
  };
  const OPERATIONS = {
    "+": strict((x, y) => x + y),
    "-": strict((x, y) => x - y),
    "==": strict((x, y) => x === y),
    "!=": strict((x, y) => x !== y),
    "<": strict((x, y) => x < y),
    "<=": strict((x, y) => x <= y),
    ">": strict((x, y) => x > y),
    ">=": strict((x, y) => x >= y),
    latest: strict(Math.max),
    earliest: strict(Math.min),
    "&": (a, b) => (s) => {
      const x = a(s), y = b(s);
      return x === false || y === false ? false : x === null || y === null ? null : true;
    },
    "|": (a, b) => (s) => {
      const x = a(s), y = b(s);
      return x === true || y === true ? true : x === null || y === null ? null : false;
    },
    "~": (a) => (s) => (a(s) === null ? null : !a(s)),
    missing: (a) => (s) => a(s) === null,
    default: (a, b) => (s) => a(s) ?? b(s),
    when: (condition, a, b) => (s) => (condition(s) === true ? a(s) : b(s)),
  };
  const terms = [];
  for (const [op, ...args] of definition.terms) {
    if (op === "literal") terms.push(() => args[0]);
    else if (op === "field") terms.push(args[0] === "now" ? (s) => s.now : (s) => s[args[0]][args[1]] ?? null);
    else terms.push(OPERATIONS[op](...args.map((number) => terms[number])));
  }
  const value = (number, sources) => terms[number](sources);
  const holds = (number, sources) => value(number, sources) === true;

  // --- One change ---
  function armed(account, sources) {
    account.due_at = value(definition.due[account.state], { ...sources, account });
    return account;
  }

  function carriedOut(move, sources) {
    const account = { ...sources.account };
    const after = { ...sources, account };
    for (const [name, number] of move.sets) account[name] = value(number, after);
    const owes = move.owes.filter(([, condition]) => holds(condition, after)).map(([effect]) => effect);
    const promised = move.promised === null ? null : value(move.promised, sources);
    account.state = move.dest ?? account.state;
    account.version += 1;
    const { event, step } = move;
    const entry = { at: sources.now, event, step, source: sources.account.state, dest: account.state, promised, owes };
    return { account: armed(account, sources), entry };
  }

  // What a sweep does with the account: a change, a mere new date, or null where nothing is due.
  function tick(sources) {
    const { account, now } = sources;
    if (account.due_at === null || account.due_at > now) return null;
    for (const timer of definition.timers) {
      if (timer.source !== account.state || !holds(timer.bracket, sources)) continue;
      const move = timer.moves.find(({ condition }) => holds(condition, sources));
      if (move) return carriedOut(move, sources);
    }
    return { account: armed({ ...account }, sources), entry: null };
  }

  // What a request changes, or the reasons why it is refused.
  function decide(event, sources) {
    const reasons = [];
    const failing = (numbers) => numbers.map((n) => definition.guards[n]).filter(({ test }) => !holds(test, sources));
    for (const row of definition.rows) {
      if (row.event !== event || !row.sources.includes(sources.account.state)) continue;
      if (!holds(row.bracket, sources)) continue;
      const refused = [];
      const ways = row.by.filter(({ role }) => role === sources.request.role).map(({ guards }) => failing(guards));
      if (ways.length === 0) refused.push(`Only ${[...new Set(row.by.map(({ role }) => role))].join(" or ")} may.`);
      else if (ways.every((missing) => missing.length)) refused.push(...ways.flat().map(({ sentence }) => sentence));
      refused.push(...failing(row.guards).map(({ sentence }) => sentence));
      if (row.reached !== null && !holds(row.reached, sources)) {
        refused.push("Its deadline, or the end of its notice period, is not reached yet.");
      }
      if (refused.length === 0) return carriedOut(row.move, sources);
      reasons.push(...refused);
    }
    return { refused: reasons.length ? [...new Set(reasons)] : ["That is not possible in this state."] };
  }

  function grants(account, now) {
    const refined = definition.refined.find(
      ({ state, case: test }) => state === account.state && holds(test, { account, now }),
    );
    return refined ? refined.grants : definition.grants[account.state];
  }

  // --- A whole life, with mails and handlers that answer at once ---
  // scenario: { plan, opened, paidUntil, moments: [{ at, event, role, period }] }, the moments in order; an event "used"
  // is activity. Returns the entries and the account at the end.
  function life(policy, scenario, until) {
    const opening = definition.openings[scenario.plan];
    let now = scenario.opened;
    const request = { role: "system", period_ends_at: scenario.paidUntil ?? null };
    let account = Object.fromEntries(definition.columns.map((name) => [name, null]));
    for (const [name, number] of opening.sets) account[name] = value(number, { account, policy, request, now });
    account = armed({ ...account, state: opening.state, plan: scenario.plan }, { policy, request, now });
    const note = (entry) => entries.push({ ...entry, grants: grants(account, entry.at), account });
    const entries = [];
    note({ at: now, event: null, step: "open", source: null, dest: account.state, promised: null, owes: [] });

    const sources = (asked = { role: "system" }) => ({ account, policy, now, request: asked });
    let owed = [];
    function take(change) {
      account = change.account;
      if (change.entry === null) return;
      note(change.entry);
      owed.push(...change.entry.owes.map((effect) => ({ effect, number: account.version })));
    }
    function deliver({ effect, number }) {
      const timer = definition.timers.find(
        ({ reminder, request: asked, source }) => [reminder, asked].includes(effect) && source === account.state,
      );
      if (timer?.reminder === effect && account.reminder === number) take(carriedOut(timer.notice, sources()));
      if (timer?.request === effect) {
        const confirmed = decide(timer.event, sources({ role: "system", receipt: "a receipt" }));
        if (!confirmed.refused) take(confirmed);
      }
    }
    function settle() {
      do {
        for (let change = tick(sources()); change !== null; change = tick(sources())) take(change);
        const delivered = owed;
        owed = [];
        delivered.forEach(deliver);
      } while (owed.length || (account.due_at !== null && account.due_at <= now));
    }
    function liveUntil(end) {
      settle();
      while (account.due_at !== null && account.due_at <= end) {
        now = Math.max(now, account.due_at);
        settle();
      }
      now = Math.max(now, end);
      settle();
    }
    function happen(moment) {
      liveUntil(moment.at);
      if (moment.event === "used") {
        if (holds(definition.activity, sources())) account = armed({ ...account, last_active_at: now }, sources());
        return;
      }
      const facts = { role: moment.role, reason: "a reason", period_ends_at: moment.period ?? null, unclaimed: false };
      const change = decide(moment.event, sources(facts));
      if (change.refused) {
        const { state } = account;
        note({ at: now, event: moment.event, step: "refused", source: state, dest: state, promised: null, owes: [],
          by: moment.role, reasons: change.refused });
      } else take({ ...change, entry: { ...change.entry, by: moment.role } });
    }
    scenario.moments.filter(({ at }) => at >= scenario.opened).forEach(happen);
    liveUntil(until);
    return { entries, account };
  }

  return { life, grants };
}
