// Drop zone: the browser sends each file to the API itself (streamed to disk there, under the API's limits) with the
// session's cookie and its CSRF token. No file name leaves the browser. The page's server tells how far each verdict is.
const PARALLEL = 2;
const TRIES = 20;
const AGAIN = [0, 429, 502, 503, 504];  // 0: no connection, as while the service is started anew; the key of a job makes sending twice harmless
const LEFT = "vigil-left";

export default {
  template: `
    <div>
      <div class="drop" :class="{ over }" @dragenter.prevent="over = true" @dragover.prevent="over = true"
           @dragleave.prevent="over = false" @drop.prevent="dropped">
        <span class="drawing drop-icon" v-html="icons.upload"></span>
        <p class="drop-what">Drop images and videos here</p>
        <p class="muted drop-or">or</p>
        <label class="button button-main" for="files">Choose files</label>
        <input id="files" class="unseen" type="file" multiple accept="image/*,video/*" @change="chosen" />
        <p class="hint">Images and videos up to {{ size(most) }} each. File names stay in your browser.</p>
      </div>
      <p class="unseen" role="status" aria-live="polite">{{ told }}</p>
      <p v-if="logged_out" class="notice" role="alert">Your session has ended; the files below are kept. <a :href="base + '/log-in'" target="_blank">Log in</a>
        <button type="button" class="button" @click="resume">Go on</button></p>
      <p v-if="foreign" class="notice" role="alert">Somebody else has logged in here; the files below are kept, and are not sent under another name. <a :href="base + '/log-in'" target="_blank">Log in as before</a>
        or <button type="button" class="button" @click="leave">leave them</button></p>
      <p v-if="left" class="notice" role="alert">{{ left === 1 ? 'One file was' : left + ' files were' }} not sent when this page was left or loaded anew. Choose {{ left === 1 ? 'it' : 'them' }} again.</p>
      <ul class="jobs" v-if="jobs.length" aria-label="Files of this visit">
        <li v-for="job in jobs" :key="job.key" class="job" :data-state="job.state">
          <div class="job-picture">
            <img v-if="picture(job)" :src="picture(job)" alt="" @error="job.unseen = picture(job)" />
            <video v-else-if="job.video" :src="job.video" muted preload="metadata"></video>
            <span v-else class="no-picture"></span>
          </div>
          <div class="job-text">
            <p class="job-name">{{ job.name }} <span class="muted">{{ size(job.bytes) }}</span></p>
            <p class="job-state" :class="{ wrong: job.problem }">{{ words(job) }}</p>
            <progress v-if="!over_with(job)" :value="share(job)" max="1" :aria-label="words(job)"></progress>
          </div>
          <div class="job-end">
            <span v-if="job.verdict" class="badge" :class="'badge-' + job.verdict">
              <span class="drawing" v-html="icons[job.verdict]"></span><span>{{ names[job.verdict] }}</span>
              <span v-if="job.percent" class="badge-figure" title="Estimated probability that this is fake">{{ job.percent }}</span>
            </span>
            <a v-if="job.id && job.state === 'done'" class="button" :href="base + '/detections/' + job.id">Open<span class="unseen"> {{ job.name }}</span></a>
            <button v-else-if="job.problem" type="button" class="button" @click="again(job)">Try again</button>
          </div>
        </li>
      </ul>
    </div>
  `,
  props: { icons: Object, names: Object, base: String, csrf: String, person: String, most: Number, states: Object, ended: Boolean },
  data: () => ({ over: false, jobs: [], told: "", token: "", logged_out: false, foreign: false, left: 0 }),
  watch: {
    states: { deep: true, handler() { this.updated_states(); } },
    ended() { this.next(); },
  },
  mounted() {
    this.token = this.csrf;
    this.left = Number(sessionStorage.getItem(LEFT)) || 0;
    sessionStorage.removeItem(LEFT);
    this.listening = { beforeunload: (event) => { if (this.unsent()) event.preventDefault(); }, pagehide: () => { if (this.unsent()) sessionStorage.setItem(LEFT, this.unsent()); },
      focus: () => { if (this.logged_out || this.foreign) this.resume(); } };
    for (const [name, handler] of Object.entries(this.listening)) window.addEventListener(name, handler);
    // A file that misses the zone must not replace the page.
    this.keep = (event) => event.preventDefault();
    window.addEventListener("dragover", this.keep);
    window.addEventListener("drop", this.keep);
  },
  unmounted() {
    for (const [name, handler] of Object.entries(this.listening)) window.removeEventListener(name, handler);
    window.removeEventListener("dragover", this.keep);
    window.removeEventListener("drop", this.keep);
    for (const job of this.jobs) URL.revokeObjectURL(job.image || job.video);
  },
  methods: {
    dropped(event) { this.over = false; this.take(event.dataTransfer.files); },
    chosen(event) { this.take(event.target.files); event.target.value = ""; },
    take(files) {
      const policy = document.querySelector("[name=policy]").value;  // as it is chosen here, whether or not the service has heard of it
      for (const file of files) {
        const seen = URL.createObjectURL(file);
        const job = { key: crypto.getRandomValues(new Uint32Array(2)).join("-"), file: Vue.markRaw(file), name: file.name, policy, bytes: file.size, state: "chosen", sent: 0,
          progress: 0, id: "", verdict: "", percent: "", problem: "", obstacle: "", tries: 0, image: "", video: "", thumbnail: "", unseen: "" };
        job[file.type.startsWith("image/") ? "image" : "video"] = seen;
        this.jobs.unshift(job);
      }
      this.next();
    },
    unsent() { return this.jobs.filter((job) => ["chosen", "sending", "busy"].includes(job.state)).length; },
    next() {
      // Where the session has ended or the service was started anew, this page hears of no verdict any more: once all is sent, a fresh one shows them.
      const deaf = this.ended || (window.socket && !window.socket.active);
      if (deaf && this.jobs.every((job) => job.id)) return window.location.reload();
      while (!this.logged_out && !this.foreign && this.jobs.filter((job) => job.state === "sending").length < PARALLEL) {
        const job = this.jobs.findLast((one) => one.state === "chosen");
        if (!job) return;
        this.send(job);
      }
    },
    send(job) {
      job.state = "sending";
      job.sent = 0;
      job.problem = "";
      if (job.file.size > this.most) return this.failed(job, `It is larger than ${this.size(this.most)}.`);
      const form = new FormData(), token = this.token;
      form.append("file", job.file, "upload");
      const request = new XMLHttpRequest();
      request.open("POST", "/v1/detections?wait=0" + (job.policy ? "&policy=" + encodeURIComponent(job.policy) : ""));
      request.setRequestHeader("X-CSRF-Token", token);
      request.setRequestHeader("Idempotency-Key", job.key);
      request.upload.onprogress = (event) => { job.sent = event.total ? event.loaded / event.total : 0; };
      request.onload = request.onerror = () => this.answered(job, request, token);
      request.send(form);
    },
    async answered(job, request, token) {
      if (!request.status && !(await job.file.slice(0, 1).arrayBuffer().catch(() => null))) return this.failed(job, "The file cannot be read any more.");
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch { /* not JSON: the status says it */ }
      if (AGAIN.includes(request.status) && job.tries < TRIES) {
        const seconds = Math.min(60, Number(request.getResponseHeader("Retry-After")) || 2 ** job.tries);
        job.tries += 1;
        job.state = "busy";
        job.obstacle = request.status ? "The service is busy" : "The service cannot be reached";
        setTimeout(() => { job.state = "chosen"; this.next(); }, seconds * 1000);
        return this.next();
      }
      if (!request.status) return this.failed(job, "The connection ended before the file was sent.");
      if (request.status === 401 || request.status === 403) {
        await this.renew();
        if (this.logged_out || this.foreign || this.token !== token) {
          job.state = "chosen";
          return this.next();
        }
      }
      if (request.status >= 300) return this.failed(job, [answer.detail || `The service answered ${request.status}.`, answer.next_step].filter(Boolean).join(" "));
      job.id = answer.id;
      job.state = answer.state || "queued";
      this.$emit("accepted", answer.id);
      this.updated_states();
      this.next();
    },
    failed(job, problem) { job.state = "failed"; job.problem = problem; this.told = `${job.name}: ${problem}`; this.next(); },
    async renew() {
      // The session may have ended, or have begun anew in another tab, with another token.
      const answer = await fetch(this.base + "/session").catch(() => null);
      const now = answer?.ok ? await answer.json() : null;
      this.logged_out = answer?.status === 401;
      this.foreign = now ? now.person !== this.person : this.foreign && !this.logged_out;
      if (now && !this.foreign) this.token = now.csrf;
    },
    leave() { this.jobs = []; window.location.reload(); },
    async resume() { await this.renew(); this.next(); },
    again(job) { job.state = "chosen"; job.tries = 0; this.next(); },
    updated_states() {
      for (const job of this.jobs) {
        const now = job.id && this.states[job.id];
        if (!now) continue;
        const before = job.state;
        Object.assign(job, now);
        if (job.state === "done" && before !== "done") this.told = `${job.name}: ${this.names[job.verdict]} ${job.percent}`;
      }
    },
    picture(job) { return [job.thumbnail, job.image].find((one) => one && one !== job.unseen); },  // of a file that is no picture, or of a kind that this browser cannot show, there is none
    over_with: (job) => job.state === "done" || job.state === "failed" || job.state === "erased",
    share(job) { return job.state === "sending" ? job.sent * 0.5 : job.id ? 0.5 + job.progress * 0.5 : 0; },
    words(job) {
      if (job.problem) return job.problem;
      const said = { chosen: "Waits to be sent", busy: `${job.obstacle}; trying again soon`, queued: "Sent; waits for its turn", done: job.reason || "Done", erased: "Erased" };
      if (job.state === "sending") return `Sending, ${Math.floor(job.sent * 100)} %`;
      if (job.state === "running") return `Looking at it, ${Math.floor(job.progress * 100)} %`;
      return said[job.state] || job.state;
    },
    size(bytes) { return bytes < 1e3 ? `${bytes} bytes` : bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`; },
  },
};
