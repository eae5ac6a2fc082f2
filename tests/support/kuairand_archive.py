"""A tiny archive of KuaiRand-Pure in the official layout."""

import io
import tarfile
from pathlib import Path

from common.params import Dataset, KuaiRand

COLUMNS = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)
FIRST = f"""{COLUMNS}
7,1,20220425,0,1650812741436,1,0,0,0,0,0,1,61802,49866,0,0,0,0,1
8,2,20220425,0,1650834000000,0,1,0,0,0,0,0,1184,11933,0,0,0,0,0
7,1,20220425,0,1650812741436,1,0,0,0,0,0,1,61802,49866,0,0,0,0,1
"""
SECOND = f"""{COLUMNS}
7,1,20220425,0,1650812741436,1,0,0,0,0,0,1,11111,49866,0,0,0,0,1
8,1,20220426,0,1650900000000,0,0,0,0,0,0,1,0,49866,0,0,0,0,12
"""
RANDOM = f"{COLUMNS}\n8,2,20220425,0,1650834000001,1,0,0,0,0,0,0,5,11933,0,0,0,1,0\n"
USERS = f"""user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,\
follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,register_days,\
register_days_range,{",".join(f"onehot_feat{i}" for i in range(18))}
7,full_active,0,1,1,514,500+,150,"[100,1k)",34,"[30,60)",799,730+,1,1,29,949,1.0,0,0,14,135,6,3,0,0.0,1.0,0.0,0.0,0.0,0.0
8,UNKNOWN,0,-124,1,-124,500+,20,"[10,100)",3,"[1,5)",1474,730+,1,3,2,1160,,0,0,31,283,6,2,2,,,,,,
"""
VIDEOS = """video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,\
server_height,music_id,music_type,tag
1,7349781,NORMAL,2022-04-10,LongImport,0.0,87433.0,720.0,1280.0,9155697141,9.0,39
2,2103883,AD,2022-04-10,Kmovie,0.0,,720.0,1280.0,6355810746,,"20,43"
3,2103883,NORMAL,2022-04-10,Kmovie,0.0,5000.0,720.0,1280.0,6355810746,9.0,
"""


def write(folder: Path, **files: str | None) -> Path:
    """KuaiRand-Pure.tar.gz in `folder`, with the official files or those given instead (None: without it)."""
    official = {
        "log_standard_4_08_to_4_21_pure": FIRST,
        "log_standard_4_22_to_5_08_pure": SECOND,
        "log_random_4_22_to_5_08_pure": RANDOM,
        "user_features_pure": USERS,
        "video_features_basic_pure": VIDEOS,
        "video_features_statistic_pure": "video_id,counts\n1,3\n",
    }
    with tarfile.open(folder / "KuaiRand-Pure.tar.gz", "w:gz") as made:
        for name, text in {**official, **files}.items():
            if text is not None:
                member = tarfile.TarInfo(f"KuaiRand-Pure/data/{name}.csv")
                content = text.encode(errors="surrogateescape")
                member.size = len(content)
                made.addfile(member, io.BytesIO(content))
    return folder / "KuaiRand-Pure.tar.gz"


def dataset(folder: Path, *, scenarios: tuple[str, ...] = ("1", "0"), logs: tuple[str, ...] = ("standard",)) -> Dataset:
    """The parameters that the reader uses."""
    kuai = KuaiRand(scenarios=list(scenarios), logs=list(logs))
    return Dataset.model_construct(name="kuairand-pure", path=str(folder), kuairand_pure=kuai)
