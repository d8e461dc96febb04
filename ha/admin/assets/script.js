// Keeps the page up to date: the server sends the parts that have changed, and they are worked into the page so that what has the
// focus, is open or is being typed stays as it is.
"use strict";

(() => {
  const live = document.getElementById("live");
  const liveText = document.getElementById("live-text");
  const said = document.getElementById("said");
  if (!live || !said || !("EventSource" in window)) return;

  let source = null;
  let again = 0;
  let quiet = 0;
  let last = "";

  function show(state, text) {
    if (live.dataset.state !== state) live.dataset.state = state;
    if (liveText.textContent !== text) liveText.textContent = text;
  }

  function attributes(from, to) {
    for (const a of [...from.attributes]) {
      if (!to.hasAttribute(a.name) && !(a.name === "open" && from.tagName === "DETAILS")) from.removeAttribute(a.name);
    }
    for (const a of to.attributes) {
      if (from.getAttribute(a.name) !== a.value) from.setAttribute(a.name, a.value);
    }
  }

  // alike says whether one node can be made like another without anybody noticing.
  function alike(a, b) {
    return a.nodeName === b.nodeName && (a.id || "") === (b.id || "") && (!a.classList || a.classList[0] === b.classList[0]);
  }

  // morph makes a node like another, and leaves alone what is the same.
  function morph(from, to) {
    if (from.nodeType !== Node.ELEMENT_NODE) {
      if (from.data !== to.data) from.data = to.data;
    } else if (!from.isEqualNode(to)) {
      attributes(from, to);
      children(from, to);
    }
  }

  // children makes what is in an element like what is in another: what is new is put in, and what is gone is taken out, around the rest.
  function children(from, to) {
    const old = [...from.childNodes];
    let i = 0;
    for (const f of to.childNodes) {
      let k = i;
      if (f.nodeType === Node.ELEMENT_NODE) {
        if (f.nodeName === "LI" && !f.id) { // of a list that grows at its head, the same one
          k = old.findIndex((o, n) => n >= i && o.isEqualNode(f));
          if (k < 0 && i < old.length && ![...to.childNodes].some((x) => x.isEqualNode(old[i]))) k = i;
        } else {
          while (k < old.length && !alike(old[k], f)) k++;
        }
      }
      if (k < 0 || k >= old.length || !alike(old[k], f)) {
        from.insertBefore(f.cloneNode(true), old[i] || null);
        continue;
      }
      while (i < k) old[i++].remove();
      morph(old[i++], f);
    }
    while (i < old.length) old[i++].remove();
  }

  function take(parts) {
    for (const [id, html] of Object.entries(parts)) {
      const part = document.getElementById(id);
      if (!part) continue;
      const fresh = new DOMParser().parseFromString(html, "text/html").body;
      children(part, fresh);
    }
    const head = document.querySelector("#now h1");
    if (head && head.textContent !== last) {
      if (last) said.textContent = head.textContent;
      last = head.textContent;
    }
  }

  function lost() {
    show("lost", "not up to date");
  }

  function stop() {
    clearTimeout(again);
    clearTimeout(quiet);
    if (source) source.close();
    source = null;
  }

  function start() {
    stop();
    source = new EventSource("stream");
    const watch = () => {
      clearTimeout(quiet);
      quiet = setTimeout(() => { lost(); start(); }, 40000);
    };
    watch();
    source.onopen = () => { show("live", "live"); watch(); };
    source.onmessage = (e) => {
      take(JSON.parse(e.data));
      show("live", "live");
      watch();
    };
    source.onerror = () => {
      lost();
      // It asks again by itself unless it was refused.
      if (source && source.readyState === EventSource.CLOSED) {
        stop();
        again = setTimeout(start, 3000);
      }
    };
  }

  // Who does not look needs no news, and a browser has few connections.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { stop(); show("still", "paused"); } else start();
  });
  window.addEventListener("pagehide", stop);
  last = (document.querySelector("#now h1") || {}).textContent || "";
  if (!document.hidden) start();
})();
