// A log that grows: text only, written once a frame, in pieces that the browser lays out only when seen.

const LINES_A_PIECE = 400;
const NEAR_END_PX = 32;

export class LogView {
  #box;
  #button;
  #waiting = [];
  #piece = null;
  #lines = 0;
  #follows = true;
  #top = 0;

  constructor(box, button) {
    this.#box = box;
    this.#button = button;
    box.addEventListener("scroll", () => {
      // Only a move upwards is the reader's wish: the end also moves away when lines come.
      if (box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END_PX) this.#follows = true;
      else if (box.scrollTop < this.#top) this.#follows = false;
      this.#top = box.scrollTop;
      button.hidden = this.#follows;
    }, { passive: true });
    button.addEventListener("click", () => this.#toEnd());
  }

  append(text) {
    if (this.#waiting.push(text) === 1) {
      // A page in the background gets no frames, and its log must not pile up.
      if (document.hidden) setTimeout(() => this.#write(), 250);
      else requestAnimationFrame(() => this.#write());
    }
  }

  #write() {
    const lines = this.#waiting;
    this.#waiting = [];
    while (lines.length) {
      if (!this.#piece || this.#lines >= LINES_A_PIECE) {
        this.#piece = this.#box.appendChild(document.createElement("pre"));
        this.#lines = 0;
      }
      const some = lines.splice(0, LINES_A_PIECE - this.#lines);
      this.#lines += some.length;
      this.#piece.append(some.join("\n") + "\n"); // a text node: never markup
    }
    if (this.#follows) this.#toEnd();
  }

  #toEnd() {
    this.#follows = true;
    this.#button.hidden = true;
    this.#box.scrollTop = this.#box.scrollHeight;
  }
}
