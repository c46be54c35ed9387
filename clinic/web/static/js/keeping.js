/*
 * Chunks that the box has not acknowledged yet, kept in the browser so that a reload loses none.
 *
 * Rules kept here:
 *   - what lies in the browser is sealed (AES-256-GCM); the key comes from the box with the recording, is never stored,
 *     cannot be read out of the page, and goes with the tab: without the box, nobody opens what is left;
 *   - a chunk is sealed for its recording and number, and is removed when the box has acknowledged it;
 *   - a browser that keeps nothing (private windows) stops no recording: it only survives no reload.
 */

const NAME = "clinic-chunks";
const STORE = "chunks";
const OLD_MS = 3 * 24 * 3600 * 1000;

/** Open what is kept of one recording; null where the browser keeps nothing. */
export async function openKeeping(recording, keyBase64) {
  if (!globalThis.indexedDB || !globalThis.crypto?.subtle || !keyBase64) return null;
  try {
    const raw = Uint8Array.from(atob(keyBase64), (letter) => letter.charCodeAt(0));
    const key = await crypto.subtle.importKey("raw", raw, "AES-GCM", false, ["encrypt", "decrypt"]);
    raw.fill(0);
    const keeping = new Keeping(await openDatabase(), key, recording);
    await keeping.removeOld();
    return keeping;
  } catch {
    return null;
  }
}

class Keeping {
  constructor(database, key, recording) {
    this.database = database;
    this.key = key;
    this.recording = recording;
  }

  /** Keep one chunk; whatever prevents it is no reason to stop. */
  async put(index, bytes) {
    try {
      const iv = crypto.getRandomValues(new Uint8Array(12));
      const data = await crypto.subtle.encrypt(this.#how(index, iv), this.key, bytes);
      await this.#do("readwrite", (store) => store.put({ recording: this.recording, index, iv, data, at: Date.now() }));
      return true;
    } catch {
      return false;
    }
  }

  /** Remove one chunk. */
  async drop(index) {
    await this.#do("readwrite", (store) => store.delete([this.recording, index])).catch(() => {});
  }

  /** Remove every chunk of this recording. */
  async dropAll() {
    await this.#do("readwrite", (store) => store.delete(this.#mine())).catch(() => {});
  }

  /** The numbers of the chunks that are kept, in order. */
  async numbers() {
    const keys = await this.#do("readonly", (store) => store.getAllKeys(this.#mine())).catch(() => []);
    return keys.map(([, index]) => index);
  }

  /** One chunk; null where it is not there, or does not open. */
  async get(index) {
    try {
      const kept = await this.#do("readonly", (store) => store.get([this.recording, index]));
      return new Uint8Array(await crypto.subtle.decrypt(this.#how(index, kept.iv), this.key, kept.data));
    } catch {
      return null;
    }
  }

  async removeOld() {
    const all = await this.#do("readonly", (store) => store.getAll());
    const old = all.filter(({ at }) => Date.now() - at > OLD_MS);
    for (const { recording, index } of old) await this.#do("readwrite", (store) => store.delete([recording, index]));
  }

  #how(index, iv) {
    return { name: "AES-GCM", iv, additionalData: new TextEncoder().encode(`${this.recording}/${index}`) };
  }

  #mine() {
    return IDBKeyRange.bound([this.recording, 0], [this.recording, Infinity]);
  }

  #do(mode, ask) {
    return new Promise((resolve, reject) => {
      const transaction = this.database.transaction(STORE, mode, { durability: "strict" });
      const request = ask(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  }
}

function openDatabase() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: ["recording", "index"] });
    request.onsuccess = () => resolve(request.result);
    request.onerror = request.onblocked = () => reject(request.error);
  });
}
