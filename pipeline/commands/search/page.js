"use strict";
const results = document.getElementById("results");
const title = document.getElementById("title");
const message = document.getElementById("message");
const picture = document.getElementById("picture");
const file = document.getElementById("file");
const drop = document.getElementById("drop");
let latest = new AbortController();

function card(neighbour) {
  const thumbnail = `/thumbnail?row=${neighbour.row}`;
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.className = "card";
  button.title = neighbour.key;
  const image = document.createElement("img");
  image.alt = "";
  image.loading = "lazy";
  image.src = thumbnail;
  image.addEventListener("error", () => {
    const none = document.createElement("span");
    none.className = "none";
    none.textContent = "no picture";
    image.replaceWith(none);
  });
  const name = document.createElement("span");
  name.className = "name";
  name.textContent = neighbour.name;
  button.append(image, name);
  if (neighbour.cosine !== null) {
    const cosine = document.createElement("span");
    cosine.className = "cosine";
    cosine.textContent = `cosine ${neighbour.cosine.toFixed(4)}`;
    button.append(cosine);
  }
  button.addEventListener("click", () => show(`/neighbours?row=${neighbour.row}`, {}, `Neighbours of ${neighbour.name}`, thumbnail));
  item.append(button);
  return item;
}

// Shows what a request answers, and lets go of the one before it: a late answer would replace a newer one.
async function show(path, request, heading, source) {
  latest.abort();
  latest = new AbortController();
  const { signal } = latest;
  message.textContent = "Searching …";
  let answer;
  try {
    const response = await fetch(path, { ...request, signal });
    answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
  } catch (error) {
    if (signal.aborted) return;
    message.textContent = `This did not work: ${error.message}`;
    return;
  }
  title.textContent = heading;
  message.textContent = answer.message;
  picture.hidden = true;
  if (source) picture.src = source instanceof Blob ? URL.createObjectURL(source) : source;
  results.replaceChildren(...answer.neighbours.map(card));
  title.focus();
}

function search(image) {
  if (image) show("/search", { method: "POST", body: image }, `Neighbours of ${image.name}`, image);
}

// The browser shows no picture of an image in a shard, nor of some formats.
picture.addEventListener("load", () => { picture.hidden = false; });
for (const end of ["load", "error"]) picture.addEventListener(end, () => URL.revokeObjectURL(picture.src));

file.addEventListener("change", () => {
  search(file.files[0]);
  file.value = ""; // otherwise choosing the same file again is no change
});
document.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
document.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  search(event.dataTransfer.files[0]);
});
show("/neighbours", {}, "Images of the runs");
