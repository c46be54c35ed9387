/*
 * Chunks on their way to the box.
 *
 * Rules kept here:
 *   - chunks go one at a time, in order, so what the box has is always a beginning without holes;
 *   - a chunk leaves this queue only when the box has acknowledged it with the digest of the very bytes that were sent;
 *   - a temporary failure is tried again for ever, with growing pauses; any other stops the queue and is reported;
 *   - what is not acknowledged is also kept sealed (`keeping.js`), so that a reload loses none of it.
 */

export const FIRST_PAUSE_MS = 500;
export const LONGEST_PAUSE_MS = 15_000;

/** The pause before the attempt that follows `failures` failures in a row. */
export function pause(failures) {
  return Math.min(FIRST_PAUSE_MS * 2 ** Math.max(0, failures - 1), LONGEST_PAUSE_MS);
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Uploader {
  #queue = [];
  #next;
  #running = null;
  #failures = 0;

  /**
   * @param {object} options
   * @param {(index: number, bytes: Uint8Array) => Promise<{sha256: string}>} options.send puts one chunk
   * @param {(bytes: Uint8Array) => Promise<string|null>} [options.digest] SHA-256 in hex; null where it cannot be had
   * @param {(state: object) => void} [options.onChange] told after every change
   * @param {(ms: number) => Promise<void>} [options.sleep] waits
   * @param {number} [options.first] number of the first chunk
   * @param {{put: Function, drop: Function} | null} [options.keeping] keeps what is not acknowledged
   */
  constructor({ send, digest = sha256, onChange = () => {}, sleep = wait, first = 0, keeping = null }) {
    this.keeping = keeping;
    this.send = send;
    this.digest = digest;
    this.onChange = onChange;
    this.sleep = sleep;
    this.#next = first;
    this.acknowledged = first;
    this.error = null;
    this.trouble = null;
  }

  /** How many chunks the box has not acknowledged. */
  get pending() {
    return this.#queue.length;
  }

  /** How many chunks there are in all, so far. */
  get total() {
    return this.#next;
  }

  /** Take one chunk; it goes out as soon as those before it are acknowledged. */
  add(bytes) {
    this.#queue.push({ index: this.#next, bytes });
    this.keeping?.put(this.#next, bytes);
    this.#next += 1;
    this.#changed();
    this.#start();
  }

  /** Wait until everything is acknowledged; throws what stopped the queue. */
  async drained() {
    while (this.#running) await this.#running;
    if (this.error) throw this.error;
  }

  #start() {
    if (this.#running || this.error) return;
    this.#running = this.#run().finally(() => {
      this.#running = null;
      if (this.#queue.length && !this.error) this.#start();
    });
  }

  async #run() {
    while (this.#queue.length && !this.error) {
      const chunk = this.#queue[0];
      try {
        await this.#put(chunk);
      } catch (error) {
        await this.#failed(error);
        continue;
      }
      this.#queue.shift();
      this.keeping?.drop(chunk.index);
      this.acknowledged = chunk.index + 1;
      this.#failures = 0;
      this.trouble = null;
      this.#changed();
    }
  }

  async #put({ index, bytes }) {
    const ack = await this.send(index, bytes);
    const expected = await this.digest(bytes);
    if (expected !== null && ack.sha256 !== expected) {
      throw Object.assign(new Error("the box stored something else than was sent"), {
        code: "ack_mismatch",
        hint: "stop, and tell the administrator",
        temporary: false,
      });
    }
  }

  async #failed(error) {
    if (!error.temporary) {
      this.error = error;
      this.#changed();
      return;
    }
    this.#failures += 1;
    this.trouble = error;
    this.#changed();
    await this.sleep(pause(this.#failures));
  }

  #changed() {
    this.onChange({
      pending: this.pending,
      acknowledged: this.acknowledged,
      total: this.total,
      trouble: this.trouble,
      error: this.error,
    });
  }
}

/** SHA-256 in hex, or null where the page is no secure context. */
export async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) return null;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
