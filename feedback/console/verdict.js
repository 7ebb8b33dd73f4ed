// The file, the face under its heatmap, and the timeline that scrubs both.
export default {
  template: `
    <div class="evidence">
      <div class="stage">
        <figure class="card stage-file">
          <div class="frame-box" v-if="plays || still" :style="ratio ? { '--ratio': ratio } : null">
            <video v-if="plays" ref="video" :src="media.file" controls muted playsinline preload="auto" :poster="media.picture || null"
                   @timeupdate="follow" @loadedmetadata="loaded" @error="unplayable = true" aria-label="The video that was sent"></video>
            <img v-else :src="still" alt="The file that was sent" @error="no_still = true" @load="shape($event.target.naturalWidth, $event.target.naturalHeight)" />
            <div v-if="box" class="face-box" :style="box" aria-hidden="true"><span>{{ 'Face ' + (track + 1) }}</span></div>
          </div>
          <p v-else class="muted">There is no picture of this file.</p>
          <figcaption class="hint" v-if="unplayable && still">This browser cannot play the file; a frame of it is shown.{{ media.faces.length ? ' The faces beside it are of the ' + (detection.verdict === 'real' ? 'clip that looks most real.' : 'most suspicious clip.') : '' }}</figcaption>
          <figcaption class="hint" v-else-if="box">The box shows the face that the verdict speaks of{{ is_video ? ' at this moment' : '' }}.</figcaption>
        </figure>
        <figure class="card stage-face" v-if="media.faces.length">
          <div class="face-frame">
            <img class="face-plain" :src="media.faces[frame]" :alt="'The face at ' + seconds(frame_seconds)" />
            <img v-if="explanation" class="face-heat" :src="media.heatmaps + heat_frame" :style="{ opacity: opacity / 100 }" alt="" />
          </div>
          <figcaption>
            <p class="face-caption">Face {{ shown_track + 1 }}<template v-if="is_video">, {{ seconds(frame_seconds) }}</template>
              <template v-if="frame_row && frame_row.p_fake !== null"> · this frame {{ estimate(frame_row.p_fake) }} fake, weight {{ percent(frame_row.certainty) }}</template></p>
            <div v-if="explanation" class="field">
              <label for="opacity">Heatmap <span class="muted">{{ opacity }} %</span></label>
              <input id="opacity" type="range" min="0" max="100" step="5" v-model.number="opacity" :aria-valuetext="opacity + ' percent'" />
              <p class="hint">Bright: where a change would move the verdict most. It does not say that something was forged there.</p>
            </div>
            <div v-else-if="can_explain">
              <button type="button" class="button" @click="$emit('explain')" :disabled="explaining">{{ explaining ? 'Making the heatmap …' : 'Show heatmap' }}</button>
              <p class="hint">{{ explaining ? 'This takes some seconds.' : 'Made when asked for; it takes some seconds.' }}</p>
            </div>
            <p v-if="problem" class="refused" role="alert">{{ problem }}</p>
          </figcaption>
        </figure>
      </div>

      <section class="card timeline" v-if="is_video && clips.length" aria-label="Timeline">
        <div class="timeline-head">
          <h2>Timeline</h2>
          <p class="muted">{{ seconds(at) }} of {{ seconds(length) }}</p>
        </div>
        <div class="timeline-track" v-for="one in tracks" :key="one.track" :class="{ chosen: one.track === track }">
          <p class="timeline-name"><button type="button" class="button-plain" @click="track = one.track" :aria-pressed="one.track === track">Face {{ one.track + 1 }}</button>
            <span class="muted">{{ estimate(one.p_fake) }} fake</span></p>
          <div class="timeline-plot" @pointerdown="point" @pointermove="drag">
            <svg :viewBox="'0 0 1000 100'" preserveAspectRatio="none" aria-hidden="true" focusable="false">
              <rect v-for="part in forged_of(one.track)" class="plot-forged" :x="x(part.start_seconds)" y="0" :width="width(part)" height="100"/>
              <line class="plot-threshold" x1="0" x2="1000" :y1="y(detection.threshold)" :y2="y(detection.threshold)"/>
              <g v-for="clip in clips_of(one.track)">
                <rect class="plot-clip" :class="side(clip)" :x="x(clip.start_seconds)" :width="width(clip)" :y="y(clip.p_fake)" :height="100 - y(clip.p_fake)"
                      :style="{ opacity: 0.25 + 0.75 * (clip.certainty ?? 1) }"/>
              </g>
              <polyline v-if="tells_frames && one.track === shown_track" class="plot-frames" :points="frame_points"/>
            </svg>
            <div class="cursor" :style="{ left: x(at) / 10 + '%' }" aria-hidden="true"></div>
          </div>
        </div>
        <div class="field scrub">
          <label for="scrub">Position</label>
          <input id="scrub" type="range" min="0" :max="length" :step="step" :value="at" @input="go($event.target.valueAsNumber)" :aria-valuetext="spoken" />
        </div>
        <p class="hint legend"><span class="key plot-fake"></span>clip at or above the threshold <span class="key plot-real"></span>below it
          <span class="key plot-line"></span>threshold {{ percent(detection.threshold) }} <span class="key plot-pale"></span>paler: less weight in the verdict
          <template v-if="(detection.forged || []).length"><span class="key plot-band"></span>{{ detection.verdict === 'fake' ? 'forged' : 'suspicious' }} interval</template>
          <template v-if="tells_frames"><span class="key plot-dots"></span>frame by frame</template></p>
        <details>
          <summary>Timeline as a table</summary>
          <div class="table-frame" tabindex="0" role="region" aria-label="Timeline as a table">
            <table><thead><tr><th scope="col">Face</th><th scope="col">From</th><th scope="col">To</th><th scope="col">Fake</th><th scope="col">Weight</th></tr></thead>
              <tbody><tr v-for="clip in clips"><td data-head="Face">{{ clip.track + 1 }}</td><td data-head="From">{{ seconds(clip.start_seconds) }}</td>
                <td data-head="To">{{ seconds(clip.end_seconds) }}</td><td data-head="Fake">{{ estimate(clip.p_fake) }}</td><td data-head="Weight">{{ percent(clip.certainty) }}</td></tr></tbody></table>
          </div>
        </details>
      </section>
    </div>
  `,
  props: { detection: Object, media: Object, explanation: Object, explaining: Boolean, problem: String, can_explain: Boolean },
  data: () => ({ at: 0, track: 0, opacity: 80, unplayable: false, no_still: false, media_seconds: 0, ratio: null }),
  computed: {
    is_video() { return this.media.kind === "video"; },
    plays() { return this.is_video && !this.unplayable && this.media.file; },
    clips() { return this.detection.clips || []; },
    tracks() { return this.detection.tracks || []; },
    shown_clip() { return this.clips[this.detection.shown ?? -1] || null; },
    shown_track() { return this.shown_clip ? this.shown_clip.track : 0; },
    length() { return Math.max(this.media_seconds, ...this.clips.map((clip) => clip.end_seconds), 0.1); },
    step() { return this.length > 60 ? 0.1 : 0.04; },
    still() { return this.is_video || this.no_still ? this.media.picture : this.media.file; },
    frames() {
      const clip = this.shown_clip, n = this.media.faces.length;
      if (!clip) return [];
      return Array.from({ length: n }, (_, at) => clip.start_seconds + ((clip.end_seconds - clip.start_seconds) * at) / Math.max(1, n - 1));
    },
    frame() { return nearest(this.frames, this.at); },
    frame_seconds() { return this.frames[this.frame] ?? 0; },
    heat_frame() { return this.explanation ? Math.min(this.frame, this.explanation.heatmaps - 1) : 0; },
    frame_row() { return this.explanation ? this.explanation.frames[this.heat_frame] : null; },
    tells_frames() { return Boolean(this.explanation) && this.explanation.frames.every((row) => row.p_fake !== null); },
    frame_points() { return this.explanation.frames.map((row) => `${this.x(row.seconds)},${this.y(row.p_fake)}`).join(" "); },
    box() {
      const clip = this.clips_of(this.track).find((one) => this.at >= one.start_seconds - 0.01 && this.at <= one.end_seconds + 0.01) || (this.is_video ? null : this.clips[0]);
      if (!clip || !clip.place || this.unplayable) return null;
      const [x, y, wide] = clip.place;
      return { left: `${x * 100}%`, top: `${y * 100}%`, width: `${wide * 100}%` };
    },
    spoken() {
      const clip = this.clips_of(this.track).find((one) => this.at >= one.start_seconds && this.at <= one.end_seconds);
      return `${this.seconds(this.at)}` + (clip ? `, face ${this.track + 1}: ${this.estimate(clip.p_fake)} fake` : ", no face judged here");
    },
  },
  watch: {
    explanation(now) {  // show the frame that weighs most: there is most to see; where no frame has a weight, stay
      if (this.tells_frames) this.go(now.frames.reduce((best, row) => (row.certainty > best.certainty ? row : best)).seconds);
    },
  },
  mounted() {
    this.track = this.shown_track;
    if (this.shown_clip) this.at = this.shown_clip.start_seconds;
  },
  methods: {
    x(seconds) { return (seconds / this.length) * 1000; },
    y(p) { return 100 - p * 100; },
    width(part) { return Math.max(6, this.x(part.end_seconds) - this.x(part.start_seconds)); },
    side(clip) { return clip.p_fake >= this.detection.threshold ? "plot-fake" : "plot-real"; },
    clips_of(track) { return this.clips.filter((clip) => clip.track === track); },
    forged_of(track) { return (this.detection.forged || []).filter((part) => part.track === track); },
    seconds: (value) => `${value.toFixed(1)} s`,
    estimate(p_fake) {  // as in parts.py: never certainty
      const text = this.percent(p_fake);
      return text === "100 %" ? "> 99 %" : text === "0 %" ? "< 1 %" : text;
    },
    percent: (value) => (value === null || value === undefined ? "–" : `${(value * 100).toFixed(0)} %`),
    shape(wide, high) { if (wide && high) this.ratio = wide / high; },
    loaded() {
      this.shape(this.$refs.video.videoWidth, this.$refs.video.videoHeight);
      this.media_seconds = Number.isFinite(this.$refs.video.duration) ? this.$refs.video.duration : 0; this.$refs.video.currentTime = this.at;
    },
    follow() { if (!this.held) this.at = this.$refs.video.currentTime; },
    go(seconds) {
      this.at = Math.min(Math.max(seconds, 0), this.length);
      const video = this.$refs.video;
      if (video && !this.unplayable) {
        this.held = true;
        video.pause();
        video.currentTime = this.at;
        clearTimeout(this.holding);
        this.holding = setTimeout(() => { this.held = false; }, 300);
      }
    },
    point(event) { event.currentTarget.setPointerCapture(event.pointerId); this.drag(event); },
    drag(event) {
      if (!(event.buttons & 1)) return;
      const plot = event.currentTarget.getBoundingClientRect();
      this.go(((event.clientX - plot.left) / plot.width) * this.length);
    },
  },
};

function nearest(values, wanted) {
  let best = 0;
  values.forEach((value, at) => { if (Math.abs(value - wanted) < Math.abs(values[best] - wanted)) best = at; });
  return best;
}
