// What pages are made of: elements, and items by their names.

export const find = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// "Matrix, The" is how catalogues sort, not how people speak.
export function spoken(title) {
  const found = /^(.*), (The|A|An|La|Le|Les|L'|Das|Der|Die|Il|El)$/.exec(title);
  if (!found) return title;
  return found[2].endsWith("'") ? found[2] + found[1] : `${found[2]} ${found[1]}`;
}

export const nameOf = (item) => (item.title ? spoken(item.title) : item.item_id);
