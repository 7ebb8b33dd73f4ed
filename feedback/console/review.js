// One case after the other, by keyboard. The pictures of the next ones are there, hidden, while this one is looked at; an answer does not wait for the server.
// The media themselves come when their case is shown, over its picture: each file that is asked for is an entry in the trail, of who saw it.
const AHEAD = 4;
const LEFT = "vigil-unconfirmed-";
const KEYS = [["R", "real"], ["F", "fake"], ["U", "unsure"]];

export default {
  template: `
    <div class="review" :class="{ busy: !one }">
      <p v-if="left.length" class="notice review-left" role="alert">{{ left.length === 1 ? 'One answer was' : left.length + ' answers were' }} not confirmed when this page was left or loaded anew,
        and perhaps not taken. The case shows what stands, and lets it be taken back:
        <template v-for="([id, { label }], at) in left" :key="id">{{ at ? ', ' : '' }}<a :href="base + '/cases/' + id">{{ names[label] || 'Undo' }}</a></template></p>
      <div v-if="one" class="review-case">
        <p class="review-place"><strong>Case {{ at + 1 }}</strong> of {{ cases.length }}{{ more ? ' and more' : '' }} · {{ reasons[one.reason] || one.reason }}
          · {{ one.answers ? (one.answers === 1 ? 'one other answer' : one.answers + ' other answers') : 'nobody else has answered yet' }}</p>
        <figure class="card review-stage" :class="{ answered: answer }">
          <div class="review-media" v-for="item in near" v-show="item.id === one.id" :key="item.id + '-' + (tries[item.id] || 0)" :data-case="item.id">
            <p v-if="!visible(item)" class="muted">There is no picture of this file. Where nothing can be seen, the right answer is Unsure.</p>
            <div v-else class="frame-box" :style="ratios[item.id] ? { '--ratio': ratios[item.id] } : null" @click="play">
              <img v-if="picture(item)" :src="picture(item)" @error="broken[item.id] ||= played(item, 'image')" @load="shape(item.id, $event.target.naturalWidth, $event.target.naturalHeight)" :alt="item.media.kind === 'image' ? 'The picture of this case' : 'A frame of this case'" />
              <video v-if="played(item, 'video')" :src="item.media.file" preload="auto" muted loop playsinline @loadeddata="$event.target.style.background = '#000'"
                     @error="broken[item.id] = true" @loadedmetadata="shape(item.id, $event.target.videoWidth, $event.target.videoHeight)"
                     aria-label="The video of this case; Space stops and starts it"></video>
            </div>
            <div class="review-faces" role="group" v-if="item.media.faces.length" :aria-label="heat ? 'Faces under the heatmap' : 'Faces'">
              <div class="face-frame" v-for="n in faces(item)" :key="n">
                <img :src="item.media.faces[n]" alt="" /><img v-if="heat && heats[item.id]" class="face-heat" :src="item.media.heatmaps + n" alt="" />
              </div>
            </div>
          </div>
          <p v-if="heat && !heats[one.id]" class="hint" role="status">{{ problems[one.id] || 'The heatmap is being made …' }}</p>
        </figure>
        <div class="review-answers" role="group" aria-label="Your answer">
          <button v-for="[key, label] in keys" type="button" class="button answer" :class="'answer-' + label" :aria-pressed="answer === label" :disabled="!!answer" @click="$event.detail < 2 && say(label)">
            <span class="drawing" v-html="icons[label]"></span><span>{{ names[label] }}</span><kbd aria-hidden="true">{{ key }}</kbd></button>
        </div>
        <details class="review-more">
          <summary>Who is it, and a note <span class="muted">(optional)</span></summary>
          <div class="field"><label for="identity">Who is in it, where you know</label>
            <input id="identity" v-model="identity" maxlength="200" autocomplete="off" :disabled="!!answer" @keydown.enter.prevent="leave" @keydown.esc.prevent="leave" />
            <p class="hint">A short name of your own, the same for the same person; it keeps people apart in training and tests.</p></div>
          <div class="field"><label for="note">Note</label>
            <input id="note" v-model="note" maxlength="2000" autocomplete="off" :disabled="!!answer" @keydown.enter.prevent="leave" @keydown.esc.prevent="leave" />
            <p class="hint">Shortcuts rest while you write; Enter or Escape brings them back.</p></div>
        </details>
      </div>
      <div v-else class="empty">
        <span class="drawing" v-html="icons.empty"></span>
        <p class="empty-what">{{ more ? 'Looking for further cases …' : counted ? 'You have answered all that waits.' : 'No case waits for you.' }}</p>
        <p class="muted">Cases open when the model is unsure, when somebody disputes a verdict, and at random. Your own uploads go to others.</p>
        <button type="button" class="button" @click="$emit('more')">Look again</button>
      </div>
      <aside class="card review-side" aria-label="Your answers">
        <p class="review-last" role="status" aria-live="polite">{{ last || 'Your answers appear here.' }}</p>
        <ol class="review-log" v-if="log.length" reversed>
          <li v-for="row in log" :key="row.id + row.turn"><span class="badge" :class="'badge-' + (row.label === 'unsure' ? 'none' : row.label)">
            <span class="drawing" v-html="icons[row.label]"></span><span>{{ names[row.label] }}</span></span> <span class="muted">{{ row.told }}</span></li>
        </ol>
        <p class="row"><button type="button" class="button" :disabled="!undoable" @click="undo">Undo <kbd aria-hidden="true">Z</kbd></button>
          <button type="button" class="button" :disabled="!one" :aria-pressed="heat" @click="toggle_heat">Heatmap <kbd aria-hidden="true">H</kbd></button>
          <button type="button" class="button" @click="help">Keys <kbd aria-hidden="true">?</kbd></button></p>
        <p class="hint" v-if="counted">{{ counted }} answered in this visit{{ pace ? ', ' + pace + ' s a case (median)' : '' }}.</p>
      </aside>
      <dialog ref="help" aria-labelledby="help-head"><h2 id="help-head">Keys</h2>
        <dl class="facts keys"><template v-for="[key, what] in help_rows"><dt><kbd>{{ key }}</kbd></dt><dd>{{ what }}</dd></template></dl>
        <form method="dialog"><button class="button button-main">Close</button></form></dialog>
    </div>
  `,
  props: { cases: Array, more: Boolean, icons: Object, names: Object, reasons: Object, results: Object, heats: Object, problems: Object, base: String, person: String },
  data: () => ({
    at: 0, answers: {}, said: [], log: [], turn: 0, heat: false, written: {}, last: "", counted: 0, seen: 0, times: {}, broken: {}, shown: {}, tries: {}, ratios: {}, unconfirmed: {}, left: [], keys: KEYS,
    help_rows: [["R", "Real"], ["F", "Fake"], ["U", "Unsure"], ["Z", "Undo your last answer"], ["J or →", "Next case"], ["K or ←", "Case before"], ["H", "Heatmap on and off"], ["Space", "Stop and start the video"],
      ["I", "Write who it is"], ["N", "Write a note"], ["?", "This list"]],
  }),
  computed: {
    one() { return this.cases[this.at] || null; },
    answer() { return this.one ? this.answers[this.one.id] || "" : ""; },
    near() { return this.cases.slice(Math.max(0, this.at - 1), this.at + 1 + AHEAD); },  // no browser keeps what the service sends, but a page has what it holds
    identity: of_case("identity"),
    note: of_case("note"),
    undoable() { return this.said.length > 0; },
    pace() {
      const all = Object.values(this.times).sort((a, b) => a - b), half = (all.length - 1) / 2;
      return all.length ? ((all[Math.floor(half)] + all[Math.ceil(half)]) / 2).toFixed(1) : "";
    },
  },
  watch: {
    results: { deep: true, handler() { this.hear(); } },
    at() { this.arrive(); },
    cases() { if (!this.seen) this.arrive(); },
  },
  mounted() {
    this.left = JSON.parse(sessionStorage.getItem(LEFT + this.person)) || [];
    sessionStorage.removeItem(LEFT + this.person);
    document.addEventListener("keydown", this.key);
    window.addEventListener("pagehide", this.keep);
    this.arrive();
  },
  unmounted() { document.removeEventListener("keydown", this.key); window.removeEventListener("pagehide", this.keep); },
  methods: {
    arrive() {
      this.seen = this.one ? performance.now() : 0;
      if (this.one) this.shown[this.one.id] = true;
      if (this.heat) this.want_heat();
      this.$nextTick(() => this.start(false));
      if (this.more && this.cases.length - this.at <= AHEAD) this.$emit("more");
    },
    key(event) {
      const target = event.target, within = (css) => target instanceof HTMLElement && target.closest(css);
      // A browser presses a button again and again while Enter is held, and under an answer's the next case has come meanwhile.
      if (event.repeat && event.key === "Enter" && within("button")) return event.preventDefault();
      if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || this.$refs.help.open) return;
      if (target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))) return;
      const does = { r: () => this.say("real"), f: () => this.say("fake"), u: () => this.say("unsure"), z: () => this.undo(), h: () => this.toggle_heat(), j: () => this.move(1),
        arrowright: () => this.move(1), k: () => this.move(-1), arrowleft: () => this.move(-1), i: () => this.write("identity"), n: () => this.write("note"), " ": () => this.play(), "?": () => this.help() }[event.key.toLowerCase()];
      if (!does || (event.repeat && !event.key.startsWith("Arrow"))) return;
      if (event.key === " " && within("button, a, summary")) return;
      event.preventDefault();
      does();
    },
    say(label) {
      if (!this.one || this.answer || this.away("Your answer was not taken.")) return;
      const seconds = (performance.now() - this.seen) / 1000;
      const told = { turn: ++this.turn, id: this.one.id, label, note: this.note, identity: this.identity, seconds };
      this.answers[told.id] = label;
      this.unconfirmed[told.id] = { label, turn: told.turn };
      this.said.push(told.id);
      this.times[told.id] = seconds;
      this.counted += 1;
      this.log.unshift({ id: told.id, turn: told.turn, label, told: "being sent" });
      this.log.splice(8);
      this.last = `${this.names[label]}, case ${this.at + 1}.`;
      this.$emit("answer", told);
      this.forward();
    },
    forward() {
      const waits = (one) => !this.answers[one.id] && (!this.results[one.id]?.refused || this.results[one.id].again);
      const later = this.cases.findIndex((one, at) => at > this.at && waits(one));
      const next = later >= 0 ? later : this.cases.findIndex(waits);  // what was passed over comes again at the end
      this.at = next >= 0 ? next : this.cases.length;
    },
    move(step) { this.at = Math.min(Math.max(this.at + step, 0), Math.max(0, this.cases.length - 1)); },
    undo() {
      if (!this.undoable || this.away("Nothing was taken back.")) return;
      const id = this.said.pop(), turn = ++this.turn;
      this.unconfirmed[id] = { label: "undo", turn };
      this.$emit("undo", { id, turn });
      this.last = "Taking the last answer back.";
      this.at = Math.max(0, this.cases.findIndex((one) => one.id === id));  // what is pressed next is meant for it, which takes no answer until this one is taken back
    },
    hear() {
      for (const [id, result] of Object.entries(this.results)) {
        if (this.heard?.[id] === result.turn) continue;
        (this.heard ??= {})[id] = result.turn;
        if (this.unconfirmed[id]?.turn === result.turn && !result.again) delete this.unconfirmed[id];
        const row = this.log.find((one) => one.id === id);
        if (result.undone || result.refused) {
          if (this.answers[id] && !result.keep) { delete this.answers[id]; delete this.times[id]; this.counted = Math.max(0, this.counted - 1); this.said = this.said.filter((one) => one !== id); }
          if (result.keep && result.again) this.said.push(id);
          if (row && result.undone) this.log = this.log.filter((one) => one.id !== id);
          if (result.keep && this.one?.id === id) this.forward();
        }
        if (row) row.told = result.told;
        this.last = result.refused ? `Case ${this.cases.findIndex((one) => one.id === id) + 1}: ${result.told}` : result.told;  // it stands beside another one
        if (result.again && !this.one) this.forward();
      }
    },
    away(so) {  // before the page is live, what is given is kept and sent; once the connection is lost, the page may be loaded anew before it can be
      const away = window.did_handshake && !window.socket.connected;
      if (away) this.last = `The service cannot be reached. ${so}`;
      return away;
    },
    keep() {
      const left = Object.entries(this.unconfirmed);
      if (left.length) sessionStorage.setItem(LEFT + this.person, JSON.stringify(left));
    },
    toggle_heat() { this.heat = !this.heat; if (this.heat) this.want_heat(); },
    want_heat() { if (this.one && !this.heats[this.one.id]) this.$emit("heat", this.one.id); },
    write(name) { document.querySelector(".review-more").open = true; this.$nextTick(() => document.getElementById(name).focus()); },
    leave(event) { event.target.blur(); },
    shape(id, wide, high) { if (wide && high) this.ratios[id] = wide / high; },
    played(item, kind) { return item.media.kind === kind && this.shown[item.id] && !this.broken[item.id]; },
    picture(item) { return this.played(item, "image") ? item.media.file : item.media.picture; },
    visible(item) { return (item.media.kind && !this.broken[item.id]) || item.media.picture; },
    faces(item) {
      const n = item.media.faces.length, shown = Math.min(8, n);
      return Array.from({ length: shown }, (_, at) => Math.round((at * (n - 1)) / Math.max(1, shown - 1)));
    },
    videos(of) {  // of the case that is shown, or of the others
      return [...this.$el.querySelectorAll(".review-media video")].filter((video) => (video.closest(".review-media").dataset.case === this.one?.id) === of);
    },
    start(again) {
      if (!this.one) return;
      const id = this.one.id, pictures = [...this.$el.querySelectorAll(`.review-media[data-case="${id}"] img`)];
      if (!again && (this.broken[id] || pictures.some((one) => one.complete && !one.naturalWidth))) {
        delete this.broken[id];  // what could not be had ahead is asked for once more when its turn comes
        this.tries[id] = (this.tries[id] || 0) + 1;
        return this.$nextTick(() => this.start(true));
      }
      for (const video of this.videos(false)) video.pause();
      for (const video of this.videos(true)) video.play().catch(() => {});  // one that cannot be played says so by its error
    },
    play() { for (const video of this.videos(true)) { if (video.paused) video.play(); else video.pause(); } },
    help() { this.$refs.help.showModal(); },
  },
};

// What is written of a case stays with it while others are looked at, and after its answer, for who takes that back.
function of_case(name) {
  return {
    get() { return this.written[this.one?.id]?.[name] || ""; },
    set(text) { this.written[this.one.id] = { ...this.written[this.one.id], [name]: text }; },
  };
}
