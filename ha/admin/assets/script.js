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

  // morph makes from like to, and leaves alone what is alike.
  function morph(from, to) {
    if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName || (from.id || "") !== (to.id || "")) {
      from.replaceWith(to.cloneNode(true));
      return;
    }
    if (from.nodeType !== Node.ELEMENT_NODE) {
      if (from.data !== to.data) from.data = to.data;
      return;
    }
    if (from.isEqualNode(to)) return;
    attributes(from, to);
    children(from, to);
  }

  function children(from, to) {
    const old = [...from.childNodes];
    const fresh = [...to.childNodes];
    // A list that grows at its head: what was first before is looked for, so that the rest need not change.
    if (from.nodeName === "OL" && old.length && fresh.length) {
      const items = fresh.filter((n) => n.nodeType === Node.ELEMENT_NODE);
      const first = [...from.children][0];
      const at = first ? items.findIndex((n) => n.isEqualNode(first)) : -1;
      if (at > 0) {
        for (const n of items.slice(0, at)) from.insertBefore(n.cloneNode(true), first);
        while (from.children.length > items.length) from.lastElementChild.remove();
        return;
      }
    }
    for (let i = 0; i < fresh.length; i++) {
      if (i < old.length) morph(old[i], fresh[i]);
      else from.appendChild(fresh[i].cloneNode(true));
    }
    for (const n of old.slice(fresh.length)) n.remove();
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
