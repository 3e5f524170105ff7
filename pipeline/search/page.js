"use strict";
const results = document.getElementById("results");
const title = document.getElementById("title");
const message = document.getElementById("message");
const picture = document.getElementById("picture");
const file = document.getElementById("file");
const drop = document.getElementById("drop");

function card(neighbour) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.className = "card";
  button.title = neighbour.key;
  const image = document.createElement("img");
  image.alt = "";
  image.loading = "lazy";
  image.src = `/thumbnail?row=${neighbour.row}`;
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
  button.addEventListener("click", () => show(`/neighbours?row=${neighbour.row}`, {}, `Neighbours of ${neighbour.name}`, image.src));
  item.append(button);
  return item;
}

async function show(path, request, heading, source) {
  message.textContent = "Searching …";
  let answer;
  try {
    const response = await fetch(path, request);
    answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
  } catch (error) {
    message.textContent = `This did not work: ${error.message}`;
    return;
  }
  title.textContent = heading;
  message.textContent = answer.message;
  picture.hidden = !source;
  if (source) picture.src = source;
  results.replaceChildren(...answer.neighbours.map(card));
  title.focus();
}

function search(image) {
  if (!image) return;
  if (picture.src.startsWith("blob:")) URL.revokeObjectURL(picture.src);
  show("/search", { method: "POST", body: image }, `Neighbours of ${image.name}`, URL.createObjectURL(image));
}

file.addEventListener("change", () => search(file.files[0]));
document.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
document.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  search(event.dataTransfer.files[0]);
});
show("/neighbours", {}, "Images of the runs");
