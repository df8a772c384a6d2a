// A drop zone for pictures and whole folders; NiceGUI's uploader sends them.
// A file of a folder is named "<folder>\u241f<name>", so that a class per folder is kept.
const twonines = {
  async walk(entry, folder, found) {
    if (entry.isFile) {
      const file = await new Promise((ok, bad) => entry.file(ok, bad));
      found.push(folder ? new File([file], folder + "\u241f" + file.name, {type: file.type}) : file);
    } else {
      const reader = entry.createReader();
      for (;;) {  // a reader gives at most 100 entries at a time
        const some = await new Promise((ok, bad) => reader.readEntries(ok, bad));
        if (!some.length) break;
        for (const one of some) await twonines.walk(one, entry.name, found);
      }
    }
  },
  isPicture: file => /\.(bmp|gif|jfif|jpe|jpe?g|png|tiff?|webp)$/i.test(file.name),
  add(uploader, files) {
    const pictures = files.filter(twonines.isPicture);
    if (pictures.length) getElement(uploader).$refs.qRef.addFiles(pictures);
  },
  pick(uploader, folder) {
    const input = document.createElement("input");
    Object.assign(input, {type: "file", multiple: true, webkitdirectory: folder});
    if (!folder) input.accept = "image/*";
    input.onchange = () => twonines.add(uploader, [...input.files].map(file => {
      const parts = file.webkitRelativePath.split("/");
      return parts.length < 2 ? file
        : new File([file], parts[parts.length - 2] + "\u241f" + file.name, {type: file.type});
    }));
    input.click();
  },
  async drop(event, uploader) {
    event.preventDefault();
    event.currentTarget.classList.remove("over");
    const entries = [...event.dataTransfer.items].map(item => item.webkitGetAsEntry()).filter(Boolean);
    const found = [];
    if (entries.length) for (const entry of entries) await twonines.walk(entry, "", found);
    else found.push(...event.dataTransfer.files);
    twonines.add(uploader, found);
  },
  language(code) {
    document.cookie = "twonines_language=" + code + "; path=/; max-age=31536000; SameSite=Strict";
    location.reload();
  },
  async logout() {
    await fetch("/v1/logout", {method: "POST"});
    location.replace("/login");
  },
  // Where a page came by plain HTTP, a browser has no navigator.clipboard.
  copy(field) {
    const input = document.querySelector(field);
    input.select();
    return document.execCommand("copy");
  },
  print(url) {
    const frame = document.createElement("iframe");
    frame.style.display = "none";
    frame.src = url;
    frame.onload = () => frame.contentWindow.print();
    document.body.append(frame);
  },
};
