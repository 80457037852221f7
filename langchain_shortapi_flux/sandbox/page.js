"use strict";

// Asks for the jobs once a second while somebody looks, and changes only what has changed: a
// picture that is there stays there. Words of jobs become text and attributes, never markup.

const GAP_MS = 1000;
const GAP_STOPPED_MS = 2000;
const DEADLINE_MS = 10000;

const header = document.querySelector("header");
const list = document.getElementById("jobs");
const stopped = document.getElementById("stopped");

let asking = false;
let timer = 0;

function copyOf(template) {
  return document.getElementById(template).content.firstElementChild.cloneNode(true);
}

function write(root, words) {
  for (const place of root.querySelectorAll("[data-text]")) {
    const text = words[place.dataset.text];
    if (place.textContent !== text) {
      place.textContent = text;
    }
  }
}

function pictureOf(look) {
  const item = copyOf(look.source === "" ? "waiting" : "picture");
  if (look.source === "") {
    item.querySelector("svg").setAttribute("viewBox", `0 0 ${look.width} ${look.height}`);
    return item;
  }
  const image = item.querySelector("img");
  image.width = look.width;
  image.height = look.height;
  image.alt = look.alt;
  image.src = look.source;
  item.querySelector("a").href = look.source;
  return item;
}

function sourcesOf(pictures) {
  return Array.from(pictures.children, (item) => {
    const image = item.querySelector("img");
    return image === null ? "" : image.getAttribute("src");
  });
}

function showPictures(pictures, looks) {
  const there = sourcesOf(pictures);
  if (there.length !== looks.length || looks.some((look, i) => look.source !== there[i])) {
    pictures.replaceChildren(...looks.map(pictureOf));
  }
}

function loadAgainWhatFailed() {
  for (const image of list.querySelectorAll("img")) {
    if (image.complete && image.naturalWidth === 0) {
      image.src = image.getAttribute("src");
    }
  }
}

function showJob(card, job) {
  if (card.dataset.state !== job.state) {
    card.dataset.state = job.state;
  }
  write(card, job);
  showPictures(card.querySelector(".pictures"), job.pictures);
}

function cardOf(job) {
  const card = document.getElementById(`job-${job.id}`);
  if (card !== null) {
    return card;
  }
  const fresh = copyOf("job");
  fresh.id = `job-${job.id}`;
  return fresh;
}

function show(seen) {
  write(header, seen);
  seen.jobs.forEach((job, place) => {
    const card = cardOf(job);
    showJob(card, job);
    if (list.children[place] !== card) {
      list.insertBefore(card, list.children[place] ?? null);
    }
  });
  while (list.children.length > seen.jobs.length) {
    list.lastElementChild.remove();
  }
}

async function ask() {
  try {
    const answer = await fetch("/page.json", {
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

async function follow() {
  if (asking || document.hidden) {
    return;
  }
  clearTimeout(timer);
  asking = true;
  const seen = await ask();
  asking = false;
  const isBack = seen !== null && !stopped.hidden;
  stopped.hidden = seen !== null;
  document.body.toggleAttribute("data-stopped", seen === null);
  // Before what could fail, so that one bad look is not the last.
  timer = setTimeout(follow, seen === null ? GAP_STOPPED_MS : GAP_MS);
  if (seen !== null) {
    show(seen);
  }
  if (isBack) {
    loadAgainWhatFailed();
  }
}

document.addEventListener("visibilitychange", follow);
follow();
